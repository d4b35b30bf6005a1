import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

extension ModelConfiguration {
  /// What the tensors of a published state dict say: all sizes, the input of the grid whose position table is stored (a
  /// square one where the table tells none), learned_range where the output has twice the input's channels, and a null class
  /// in the label table's last row. Without `pos_embed`, which is computed when it is not stored, nothing tells the input
  /// size: it is then the published 32×32, as in a config.json that names none.
  ///
  /// - Parameters:
  ///   - file: the tensors.
  ///   - heads: shapes do not tell; nil takes those of the published hidden sizes 384, 768, 1024 and 1152.
  /// - Throws: `DiTError` when a tensor that tells a size is missing or of another rank, or sizes do not fit.
  public init(stateDict file: some TensorStore, heads: Int? = nil) throws {
    let names = try FamilyNames(file, stated: nil)
    self = try StateDictConfiguration(
      names, arguments: ProgramArguments(), heads: heads, keys: nil
    ).checked.model
  }
}

/// The configuration of a state dict, put together of what its tensors tell, what the program that wrote it says, what the
/// user states, and what is the custom where none of these tells.
struct StateDictConfiguration {
  let checked: CheckedConfiguration
  /// What was assumed, one line each.
  let notes: [String]

  /// - Parameters:
  ///   - names: the tensors, and whose names they have.
  ///   - arguments: what stands beside a training checkpoint's state dicts.
  ///   - heads: where shapes cannot tell.
  ///   - keys: what the user states.
  /// - Throws: `DiTError` when a tensor that tells a size is missing or of another rank, or sizes do not fit; for keys
  ///   that contradict the tensors, or each other.
  init(_ names: FamilyNames, arguments: ProgramArguments, heads: Int?, keys: ModelKeys?) throws {
    let (file, family) = (names.store, names.family)
    let shapes = StateDictShapes(file)
    let classes = try Classes(shapes, arguments, keys)
    guard ![.jit, .pmf].contains(family) else {
      let told = try FamilyShapes(
        shapes, family, classes: (classes.count, classes.dropout), arguments: arguments, keys: keys)
      checked = try told.checked(shapes, family, heads: heads, keys: keys)
      notes = [classes.note].compactMap(\.self) + told.notes
      return
    }
    let patch = try shapes.shape(StateDictShapes.patches, "[D, C, P, P]", rank: 4)
    guard patch[2] == patch[3] else { throw shapes.failure(StateDictShapes.patches, "[D, C, P, P]") }
    let (d, p) = (patch[0], patch[2])
    var network = family.network()
    (network.hiddenSize, network.inChannels, network.patchSize) = (d, patch[1], p)
    if keys?.value("input_size") == nil {
      (network.inputHeight, network.inputWidth) = try shapes.inputSize(p, width: d)
    }
    network.depth = shapes.depth
    if family == .lightningdit {
      try TransportShapes.tell(shapes, &network)
    } else {
      network.mlpRatio = Self.ratio(try shapes.shape("blocks.0.mlp.fc1.weight", "[M, D]", rank: 2)[0], of: d)
    }
    (network.numClasses, network.classDropoutProb) = (classes.count, classes.dropout)
    network.learnSigma = try shapes.learnsSigma(channels: patch[1], patchSize: p)
    if family != .dit { try TransportShapes.checkNorms(shapes, names.original, &network) }
    network.numHeads =
      try TransportShapes.heads(names.original, network)
      ?? heads ?? keys?.integer("num_heads") ?? shapes.heads(hiddenSize: d)
    if let heads, heads != network.numHeads {
      throw DiTError(
        file: file.path, .argument("heads"), expected: "\(network.numHeads), as the tensors say", found: "\(heads)")
    }
    notes = classes.note.map { [$0] } ?? []
    var model = ModelConfiguration(network: network, family: family)
    model.latentStatistics = names.statistics
    guard let keys else {
      let path = file.path
      do throws(DiTError) {
        checked = try CheckedConfiguration(model, file: path)
      } catch {
        throw DiTError(file: path, error.subject.part, expected: "usable sizes", found: error.problem)
      }
      try TransportShapes.checkRotation(names.original, network)
      return
    }
    if let heads, let stated = keys.integer("num_heads"), heads != stated {
      throw keys.failure("num_heads", expected: "\(heads), as --heads says", found: "\(stated)")
    }
    checked = try keys.configuration(defaults: Self.members(model))
    try Self.compare(checked.model.network, with: network, shapes, keys)
    try TransportShapes.checkRotation(names.original, checked.model.network)
  }

  /// The keys that shapes tell, with the values that they tell, and those that the checkpoint's arguments do.
  private static func members(_ model: ModelConfiguration) -> [JSONMember] {
    let told: Set<String> = [
      "family", "input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads", "mlp_ratio",
      "num_classes",
      "class_dropout_prob", "learn_sigma", "norm", "mlp", "mlp_hidden", "qk_norm", "position", "latent_statistics",
    ]
    guard case .object(let members) = model.json else { return [] }
    return members.filter { told.contains($0.key) && (model.family != .dit || $0.key != "position") }
  }

  /// Throws where a stated key contradicts a shape.
  private static func compare(
    _ stated: DiTConfiguration, with told: DiTConfiguration, _ shapes: StateDictShapes, _ keys: ModelKeys
  ) throws(DiTError) {
    let rows = shapes.file.shape(of: StateDictShapes.labels)?.first ?? 0
    let sizes: [(key: String, stated: Int, told: Int, tensor: String)] = [
      ("hidden_size", stated.hiddenSize, told.hiddenSize, StateDictShapes.patches),
      ("in_channels", stated.inChannels, told.inChannels, StateDictShapes.patches),
      ("patch_size", stated.patchSize, told.patchSize, StateDictShapes.patches),
      ("depth", stated.depth, told.depth, "blocks.\(told.depth - 1).attn.qkv.weight"),
      (
        "mlp_ratio", stated.mlpSize, told.mlpSize,
        told.mlp == .gelu ? "blocks.0.mlp.fc1.weight" : "blocks.0.mlp.w3.weight"
      ),
      ("learn_sigma", stated.outChannels, told.outChannels, StateDictShapes.outputs),
    ]
    for size in sizes where size.stated != size.told {
      let shape = shapes.file.shape(of: size.tensor).map { "\($0)" } ?? "another"
      throw keys.failure(
        size.key, expected: "what tensor \(size.tensor) of \(shapes.file.path) has, of shape \(shape)",
        found: keys.value(size.key)?.summary ?? "another")
    }
    if stated.embedders == .shared, stated.labelRows != rows {
      throw keys.failure(
        "num_classes",
        expected: "\(rows) classes, or \(max(0, rows - 1)) and a null class, as tensor \(StateDictShapes.labels) of "
          + "\(shapes.file.path) has \(rows) rows",
        found: "\(stated.numClasses)\(stated.hasNullClass ? " and a null class" : "")")
    }
  }

  /// The ratio r for which Int(d · r) is m.
  private static func ratio(_ m: Int, of d: Int) -> Double {
    let ratio = Double(m) / Double(max(d, 1))
    return Int(Double(d) * ratio) < m ? ratio.nextUp : ratio
  }
}

/// How many classes the rows of a label table stand for: rows alone do not tell whether the last one is a null class.
private struct Classes {
  let count: Int
  let dropout: Double
  /// What was assumed.
  private(set) var note: String?

  private static let published = DiTConfiguration()

  /// What training programs call the number of classes.
  private static let names = ["num_classes", "class_num", "nb_classes", "n_classes"]

  init(_ shapes: StateDictShapes, _ arguments: ProgramArguments, _ keys: ModelKeys?) throws {
    guard let rows = try shapes.labelRows() else {
      (count, dropout) = (0, Self.published.classDropoutProb)
      return
    }
    let written = Self.names.lazy.compactMap { arguments.integer($0) }.first
    if let written, rows == written || rows - 1 == written {
      if let keys, let stated = keys.integer("num_classes"), stated != written {
        throw keys.failure(
          "num_classes", expected: "\(written), as the arguments in \(shapes.file.path) say", found: "\(stated)")
      }
      (count, dropout) = (written, rows == written ? 0 : Self.published.classDropoutProb)
    } else if let keys, keys.value("num_classes") != nil || keys.value("class_dropout_prob") != nil {
      // What is stated here must agree with the table, which is checked when all keys have been read.
      let leavesOut =
        switch keys.value("class_dropout_prob") {
        case .number(let share)?: share == 0
        case .integer(let share)?: share == 0
        default: keys.integer("num_classes") == rows
        }
      (count, dropout) = (leavesOut ? rows : rows - 1, leavesOut ? 0 : Self.published.classDropoutProb)
    } else {
      guard rows > 1 else { throw shapes.failure(StateDictShapes.labels, "[classes + 1, D]") }
      (count, dropout) = (rows - 1, Self.published.classDropoutProb)
      guard count != Self.published.numClasses || written != nil else { return }
      let said =
        written.map { "its arguments say \($0) classes, which does not fit" } ?? "nothing says how many classes"
      note =
        "\(shapes.file.path): \(said); the label table's \(rows) rows are read as \(count) classes and the null class, as "
        + "published (--config FILE with num_classes states another number)"
    }
  }
}

/// Reads sizes off a state dict.
struct StateDictShapes {
  static let patches = "x_embedder.proj.weight"
  static let labels = "y_embedder.embedding_table.weight"
  static let outputs = "final_layer.linear.weight"

  let file: any TensorStore

  init(_ file: any TensorStore) { self.file = file }

  func failure(_ name: String, _ expected: String) -> DiTError {
    let names = file.keys.prefix(9).map(\.name)
    let found =
      file.shape(of: name).map { "\($0)" }
      ?? "no such tensor among \(names.isEmpty ? "none" : Message.list(names) { Message.oneLine($0, limit: 60) })"
    return DiTError(file: file.path, .tensor(name), expected: expected, found: found)
  }

  /// No network is wider: what is computed from extents does not overflow.
  private static let largestExtent = 1 << 30

  /// The shape of a tensor of that rank without an extent of 0.
  func shape(_ name: String, _ expected: String, rank: Int) throws(DiTError) -> [Int] {
    guard let shape = file.shape(of: name), shape.count == rank, shape.allSatisfy({ (1...Self.largestExtent) ~= $0 })
    else {
      throw failure(name, expected)
    }
    return shape
  }

  func has(_ name: String) -> Bool { file.shape(of: name) != nil }

  /// Blocks 0, 1, … without a gap.
  var depth: Int {
    var depth = 0
    while file.shape(of: "blocks.\(depth).attn.qkv.weight") != nil { depth += 1 }
    return max(1, depth)
  }

  /// H and W of the grid whose position table is stored, a square one where the table does not tell.
  func inputSize(_ patchSize: Int, width: Int) throws -> (Int, Int) {
    let name = PositionTable.name
    let expected = "[1, L, D] with a square number L (else --config FILE with input_size)"
    guard file.shape(of: name) != nil else {
      let published = DiTConfiguration()
      guard published.inputHeight.isMultiple(of: patchSize) else {
        throw failure(name, "\(expected), as patches of \(patchSize) do not divide the published input size")
      }
      return (published.inputHeight, published.inputWidth)
    }
    let tokens = try shape(name, expected, rank: 3)[1]
    let side = Int(Double(tokens).squareRoot().rounded())
    let (square, overflow) = side.multipliedReportingOverflow(by: side)
    let isSquare = !overflow && square == tokens
    let told = try PositionTable(file, width: width)?.computedGrid(preferring: isSquare ? (side, side) : nil)
    guard let grid = told ?? (isSquare ? (side, side) : nil) else { throw failure(name, expected) }
    let (height, tooHigh) = grid.rows.multipliedReportingOverflow(by: patchSize)
    let (width, tooWide) = grid.columns.multipliedReportingOverflow(by: patchSize)
    guard !tooHigh, !tooWide else { throw failure(name, expected) }
    return (height, width)
  }

  /// Rows of the label table; nil where there is none.
  func labelRows() throws(DiTError) -> Int? {
    guard file.shape(of: Self.labels) != nil else { return nil }
    return try shape(Self.labels, "[classes + 1, D]", rank: 2)[0]
  }

  /// Whether the output has twice the input's channels.
  func learnsSigma(channels: Int, patchSize: Int) throws(DiTError) -> Bool {
    let width = Double(patchSize) * Double(patchSize) * Double(channels)
    let expected = "[P²·C', D] with C' = \(channels) or twice that"
    let outputs = Double(try shape(Self.outputs, expected, rank: 2)[0])
    guard outputs == width || outputs == 2 * width else { throw failure(Self.outputs, expected) }
    return outputs == 2 * width
  }

  func heads(hiddenSize: Int) throws(DiTError) -> Int {
    guard let heads = [384: 6, 768: 12, 1024: 16, 1152: 16][hiddenSize] else {
      throw DiTError(
        file: file.path, .argument("heads"), expected: "the number of heads to be given",
        found: "hidden size \(hiddenSize), for which none is published")
    }
    return heads
  }
}
