import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

extension ModelConfiguration {
  /// What the shapes of a published state dict say: all sizes, a square input, learned_range where the output has twice
  /// the input's channels, and a null class in the label table's last row. Without `pos_embed`, which is computed when it is
  /// not stored, nothing tells the input size: it is then the published 32×32, as in a config.json that names none.
  ///
  /// - Parameter heads: shapes do not tell; nil takes those of the published hidden sizes 384, 768, 1024 and 1152.
  /// - Throws: ``ModelFileError`` when a tensor that tells a size is missing or of another rank, or sizes do not fit.
  public init(stateDict file: some TensorStore, heads: Int? = nil) throws(ModelFileError) {
    self = try CheckedConfiguration(stateDict: file, heads: heads).model
  }

  fileprivate init(unchecked file: some TensorStore, heads: Int?) throws(ModelFileError) {
    let shapes = StateDictShapes(file)
    var network = DiTConfiguration()
    let patch = try shapes.shape("x_embedder.proj.weight", "[D, C, P, P]", rank: 4)
    (network.hiddenSize, network.inChannels, network.patchSize) = (patch[0], patch[1], patch[2])
    guard patch[2] == patch[3] else { throw shapes.failure("x_embedder.proj.weight", "[D, C, P, P]") }
    let d = network.hiddenSize
    (network.inputHeight, network.inputWidth) = try shapes.inputSize(patchSize: patch[2])
    network.depth = shapes.depth
    network.mlpRatio = Self.ratio(try shapes.shape("blocks.0.mlp.fc1.weight", "[M, D]", rank: 2)[0], of: d)
    network.numClasses = try shapes.classes()
    network.learnSigma = try shapes.learnsSigma(channels: patch[1], patchSize: patch[2])
    network.numHeads = try shapes.heads(heads, hiddenSize: d)
    self.init(network: network)
  }

  /// The ratio r for which Int(d · r) is m.
  private static func ratio(_ m: Int, of d: Int) -> Double {
    let ratio = Double(m) / Double(max(d, 1))
    return Int(Double(d) * ratio) < m ? ratio.nextUp : ratio
  }
}

extension CheckedConfiguration {
  /// As ``ModelConfiguration/init(stateDict:heads:)``.
  init(stateDict file: some TensorStore, heads: Int?) throws(ModelFileError) {
    let model = try ModelConfiguration(unchecked: file, heads: heads)
    do throws(ConfigurationFileError) {
      try self.init(model, file: file.path)
    } catch {
      throw ModelFileError(file: file.path, item: error.key, expected: "usable sizes", found: error.problem)
    }
  }
}

/// Reads sizes off a state dict.
private struct StateDictShapes {
  let file: any TensorStore

  init(_ file: any TensorStore) { self.file = file }

  func failure(_ name: String, _ expected: String) -> ModelFileError {
    let found = file.shape(of: name).map { "\($0)" } ?? "no such tensor"
    return ModelFileError(file: file.path, item: "tensor \(name)", expected: expected, found: found)
  }

  /// The shape of a tensor of that rank without an extent of 0.
  func shape(_ name: String, _ expected: String, rank: Int) throws(ModelFileError) -> [Int] {
    guard let shape = file.shape(of: name), shape.count == rank, !shape.contains(0) else {
      throw failure(name, expected)
    }
    return shape
  }

  /// Blocks 0, 1, … without a gap.
  var depth: Int {
    var depth = 0
    while file.shape(of: "blocks.\(depth).attn.qkv.weight") != nil { depth += 1 }
    return max(1, depth)
  }

  /// H and W of a square input of L patches.
  func inputSize(patchSize: Int) throws(ModelFileError) -> (Int, Int) {
    let expected = "[1, L, D] with a square number L"
    guard file.shape(of: "pos_embed") != nil else {
      let published = DiTConfiguration()
      guard published.inputHeight.isMultiple(of: patchSize) else {
        throw failure("pos_embed", "\(expected), as patches of \(patchSize) do not divide the published input size")
      }
      return (published.inputHeight, published.inputWidth)
    }
    let tokens = try shape("pos_embed", expected, rank: 3)[1]
    let side = Int(Double(tokens).squareRoot().rounded())
    let (square, overflow) = side.multipliedReportingOverflow(by: side)
    let (size, tooLarge) = side.multipliedReportingOverflow(by: patchSize)
    guard !overflow, square == tokens, !tooLarge else { throw failure("pos_embed", expected) }
    return (size, size)
  }

  /// Rows of the label table without the null class; 0 where there is no table.
  func classes() throws(ModelFileError) -> Int {
    let name = "y_embedder.embedding_table.weight"
    guard file.shape(of: name) != nil else { return 0 }
    let expected = "[classes + 1, D]"
    let rows = try shape(name, expected, rank: 2)[0]
    guard rows > 1 else { throw failure(name, expected) }
    return rows - 1
  }

  /// Whether the output has twice the input's channels.
  func learnsSigma(channels: Int, patchSize: Int) throws(ModelFileError) -> Bool {
    let name = "final_layer.linear.weight"
    let width = Double(patchSize) * Double(patchSize) * Double(channels)
    let expected = "[P²·C', D] with C' = \(channels) or twice that"
    let outputs = Double(try shape(name, expected, rank: 2)[0])
    guard outputs == width || outputs == 2 * width else { throw failure(name, expected) }
    return outputs == 2 * width
  }

  func heads(_ given: Int?, hiddenSize: Int) throws(ModelFileError) -> Int {
    if let given { return given }
    guard let heads = [384: 6, 768: 12, 1024: 16, 1152: 16][hiddenSize] else {
      throw ModelFileError(
        file: file.path, item: "heads", expected: "the number of heads to be given",
        found: "hidden size \(hiddenSize), for which none is published")
    }
    return heads
  }
}
