import DiTTensor

/// What a user asks products to be computed in: the format of their factors. Sums are float32, of int8 whole numbers.
public enum Precision: String, CaseIterable, Sendable {
  case fp32
  /// bfloat16, the upper half of a float32, rounded to nearest, ties to even.
  case bf16
  /// 8-bit integers in the products of the blocks' linear layers, with a scale for each output of the weights and one for
  /// each token, made from its values; the rest as in `bf16`. For inference only.
  case int8

  /// What activations are kept in between the blocks' products, and what the factors of attention's hold.
  public var format: Format { self == .fp32 ? .fp32 : .bf16 }

  /// What the factors of the blocks' linear layers hold.
  public var weightFormat: Format { self == .int8 ? .int8 : format }

  /// Those that networks can be trained in.
  public static let training = allCases.filter(\.isForTraining)

  /// Whether networks can be trained in it.
  public var isForTraining: Bool { self != .int8 }
}

/// Which code computes the large products.
public enum GEMM: String, CaseIterable, Sendable {
  /// OpenBLAS, whatever the CPU. float32 only.
  case blas
  /// This package's kernels over packed operands.
  case packed
  /// What is fastest here: `packed` on x86-64 and for bf16 and int8. On other CPUs, where the portable kernels have not been
  /// measured, `blas`.
  case auto
}

/// How a network computes: the format of its operands, and the code that multiplies them.
public struct Numerics: Equatable, Sendable {
  public var precision: Precision
  public var gemm: GEMM

  public init(precision: Precision = .fp32, gemm: GEMM = .auto) {
    self.precision = precision
    self.gemm = gemm
  }

  /// Whether the combination exists: OpenBLAS 0.3.21 exports no product of bf16 or int8 matrices.
  public var isSupported: Bool { precision == .fp32 || gemm != .blas }

  #if arch(x86_64)
    private static let isX86 = true
  #else
    private static let isX86 = false
  #endif

  /// Whether products run over packed operands on this context.
  public func isPacked(on context: ComputeContext) -> Bool {
    switch gemm {
    case .blas: false
    case .packed: true
    case .auto: precision != .fp32 || context.instructionSet != .portable || Self.isX86
    }
  }
}
