import DiffusionTransformers

// The one place that makes networks and workspaces: what the engine cannot do yet is refused here.

/// What products multiply.
enum Precision: String {
  case fp32, bf16
}

/// Which code multiplies.
enum GEMM: String {
  case blas, packed, auto
}

/// A way to compute the same network.
struct Variant {
  var precision = Precision.fp32
  var gemm = GEMM.auto

  /// The variants that a local run times.
  static let timed = [Variant()]
  /// What the others are compared with.
  static let reference = Variant(precision: .fp32, gemm: .blas)

  var name: String { gemm == .auto ? precision.rawValue : "\(precision.rawValue) \(gemm.rawValue)" }

  /// The largest difference from the reference's output that is accepted, over that output's largest value.
  var tolerance: Float { precision == .fp32 ? 1e-5 : 5e-2 }
}

/// The network over `weights`.
///
/// - Throws: ``BenchError`` for a variant that the engine does not have.
func makeNetwork(
  _ configuration: DiTConfiguration, weights: Weights, context: ComputeContext, _ variant: Variant
) throws -> DiTNetwork {
  try requireSupported(variant)
  return DiTNetwork(configuration, weights: weights, context: context)
}

/// The model over `weights`, to sample from.
///
/// - Throws: as ``makeNetwork(_:weights:context:_:)``; `ConfigurationFileError`.
func makeModel(
  _ configuration: DiTConfiguration, weights: Weights, context: ComputeContext, _ variant: Variant
) throws -> DiT {
  try requireSupported(variant)
  return try DiT(configuration: ModelConfiguration(network: configuration), weights: weights, context: context)
}

/// The memory of a training step.
///
/// - Parameter recompute: whether the backward pass computes activations again instead of reading them.
/// - Throws: ``BenchError`` for recomputation, which the engine does not have.
func makeTrainingWorkspace(
  _ configuration: DiTConfiguration, samples: Int, context: ComputeContext, recompute: Bool = false
) throws -> TrainingWorkspace {
  if recompute { throw BenchError("recompute: expected false, found true: the engine has no recomputation") }
  return TrainingWorkspace(configuration, samples: samples, context: context)
}

private func requireSupported(_ variant: Variant) throws {
  guard variant.precision == .fp32 else {
    throw BenchError("precision: expected fp32, found \(variant.precision.rawValue), which the engine does not have")
  }
  guard variant.gemm != .packed else {
    throw BenchError("gemm: expected auto or blas, found packed, which the engine does not have")
  }
}
