import DiTEngine

/// A line from the program that compares engines.
struct Request: Decodable {
  let op: String
  let work: WorkRequest?
  let count: Int?
}

/// What to prepare.
struct WorkRequest: Decodable {
  /// The network: the published DiT of some sizes, or one of another family, which its file of weights describes.
  enum Network: Decodable {
    case sizes(Sizes)
    case published(String)

    private enum Key: CodingKey { case published }

    init(from decoder: any Decoder) throws {
      let name = try decoder.container(keyedBy: Key.self).decodeIfPresent(String.self, forKey: .published)
      self = try name.map { .published($0) } ?? .sizes(Sizes(from: decoder))
    }
  }

  struct Sizes: Decodable {
    let input: [Int]
    let patch, channels, hidden, depth, heads, classes: Int
    let learnSigma: Bool
  }

  let kind: String
  let config: Network
  let batch: Int
  /// fp32 when left out.
  let precision: String?
  /// auto when left out.
  let gemm: String?
  /// The safetensors file with the names that its authors publish.
  let weights: String

  // forward
  let mode: String?
  /// x, t and y, and target for training; sampling starts from x and takes the labels y, where it is given.
  let inputs: String?
  /// Where `output` of the first run goes.
  let output: String?

  // train
  let recompute: Bool?

  // sample
  let steps: Int?
  let guidance: Double?
}

extension WorkRequest {
  /// The network with the weights of the file.
  ///
  /// - Throws: ``BenchError``, `DiTError`, and what reading the file throws.
  func network() throws -> (DiTConfiguration, Weights) {
    guard batch > 0 else { throw BenchError("batch: expected at least 1, found \(batch)") }
    switch config {
    case .sizes(let sizes):
      let configuration = try configuration(sizes)
      return (configuration, try Weights(contentsOf: weights, configuration: configuration))
    case .published(let name):
      let model = try ModelReference(weights).load()
      guard let weights = model.weights else { throw BenchError("\(name): expected weights in \(weights)") }
      return (model.configuration.network, weights)
    }
  }

  private func configuration(_ config: Sizes) throws -> DiTConfiguration {
    guard config.input.count == 2 else { throw BenchError("input: expected [H, W], found \(config.input)") }
    let configuration = DiTConfiguration(
      inputHeight: config.input[0], inputWidth: config.input[1], patchSize: config.patch,
      inChannels: config.channels, hiddenSize: config.hidden, depth: config.depth, numHeads: config.heads,
      numClasses: config.classes, learnSigma: config.learnSigma)
    try configuration.validate()
    return configuration
  }

  /// - Throws: ``BenchError``.
  func variant() throws -> Variant {
    let precisionName = precision ?? Precision.fp32.rawValue
    guard let precision = Precision(rawValue: precisionName) else {
      throw BenchError("precision: expected fp32 or bf16, found \(precisionName)")
    }
    let gemmName = gemm ?? GEMM.auto.rawValue
    guard let gemm = GEMM(rawValue: gemmName) else {
      throw BenchError("gemm: expected auto, blas or packed, found \(gemmName)")
    }
    return Variant(precision: precision, gemm: gemm)
  }

  /// - Throws: ``BenchError``.
  func requireInputs() throws -> String {
    guard let inputs else { throw BenchError("inputs: expected the path of a safetensors file, found none") }
    return inputs
  }
}
