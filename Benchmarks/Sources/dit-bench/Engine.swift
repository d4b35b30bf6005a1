import DiTEngine

/// A way to compute the same network.
struct Variant: Equatable {
  var precision = Precision.fp32
  var gemm = GEMM.auto

  /// The variants that a local run times.
  static let timed = [Variant(), Variant(gemm: .blas), Variant(precision: .bf16), Variant(precision: .int8)]
  /// What the others are compared with.
  static let reference = Variant(precision: .fp32, gemm: .blas)

  var numerics: Numerics { Numerics(precision: precision, gemm: gemm) }
  var name: String { gemm == .auto ? precision.rawValue : "\(precision.rawValue) \(gemm.rawValue)" }

  /// The largest difference from the reference's output that is accepted, over that output's largest value.
  var tolerance: Float {
    switch precision {
    case .fp32: 1e-5
    case .bf16: 5e-2
    case .int8: 2e-1
    }
  }

  /// - Throws: ``BenchError`` for a combination that does not exist.
  func validate() throws {
    guard numerics.isSupported else {
      throw BenchError("gemm: expected auto or packed with bf16 and int8, found blas, which has no products of them")
    }
  }
}

/// The network over `weights`, which change if it is trained.
///
/// - Throws: ``BenchError`` for a variant that does not exist.
func makeNetwork(
  _ configuration: DiTConfiguration, weights: Weights, context: ComputeContext, _ variant: Variant,
  weightsAreFixed: Bool = true
) throws -> DiTNetwork {
  try variant.validate()
  return DiTNetwork(
    configuration, weights: weights, context: context, numerics: variant.numerics, weightsAreFixed: weightsAreFixed,
    noise: try NoiseSchedule(DiffusionConfiguration()).attention)
}

/// The model over `weights`, to sample from.
///
/// - Throws: as ``makeNetwork(_:weights:context:_:weightsAreFixed:)``; `DiTError`.
func makeModel(
  _ configuration: DiTConfiguration, weights: Weights, context: ComputeContext, _ variant: Variant
) throws -> DiT {
  try variant.validate()
  return try DiT(
    configuration: ModelConfiguration(network: configuration), weights: weights, context: context,
    numerics: variant.numerics)
}
