import CBLAS

#if canImport(Glibc)
  import Glibc
#endif

/// What OpenBLAS is and which of its cores runs.
public struct BLASReport: Equatable, Sendable {
  /// OpenBLAS's own build line: version, options, core.
  public let configuration: String
  /// The kernel set it chose when it was loaded.
  public let core: String
  /// Whether that core is narrower than what the CPU has, for example because `OPENBLAS_CORETYPE` is set.
  public let isNarrowed: Bool

  /// Asks the loaded library.
  public static var current: BLASReport {
    let core = unsafe String(cString: openblas_get_corename())
    let wide: Set<String> = ["SkylakeX", "Cooperlake", "SapphireRapids"]
    let middle: Set<String> = ["Haswell", "Zen", "Excavator"]
    let narrowed =
      switch InstructionSet.supported {
      case .avx512: !wide.contains(core)
      case .avx2: !wide.contains(core) && !middle.contains(core)
      case .portable: false
      }
    return unsafe BLASReport(
      configuration: String(cString: openblas_get_config()), core: core, isNarrowed: narrowed)
  }
}

extension BLASReport {
  private static let variable = "OPENBLAS_CORETYPE"

  /// Starts the program again, from the beginning, where OpenBLAS did not know the CPU and chose a narrower core (0.3.21
  /// takes an Emerald Rapids for one with SSE3 alone), with `OPENBLAS_CORETYPE` naming one that fits: the variable is read
  /// when the library is loaded, before `main`.
  ///
  /// For programs that are linked with OpenBLAS, first in `main`. Returns where the core fits or that variable is set already,
  /// and where a program cannot be started again; then the core is as it was.
  public static func restartIfNarrowed() {
    #if canImport(Glibc)
      guard current.isNarrowed, unsafe getenv(variable) == nil else { return }
      unsafe setenv(variable, InstructionSet.supported == .avx512 ? "SkylakeX" : "Haswell", 0)
      unsafe execv("/proc/self/exe", CommandLine.unsafeArgv)
      unsafe unsetenv(variable)
    #endif
  }
}

/// A matrix as it lies in memory, with the distance between its rows, used as it is or transposed.
@unsafe enum Operand {
  case plain(UnsafePointer<Float>, Int)
  case transposed(UnsafePointer<Float>, Int)
}

/// c (m, n) = a (m, k) · b (k, n) + beta · c, row-major, on the calling thread. With beta 0, c may be uninitialised.
@unsafe @inline(__always) func sgemm(
  _ a: Operand, _ b: Operand, into c: UnsafeMutablePointer<Float>, _ ldc: Int, m: Int, n: Int, k: Int, beta: Float = 0
) {
  let (left, lda, leftFlag) = unsafe a.parts
  let (right, ldb, rightFlag) = unsafe b.parts
  let step = leftFlag == CblasNoTrans && rightFlag == CblasNoTrans ? depthWithoutMalloc(m: m, n: n, k: k) : k
  var start = 0
  repeat {
    unsafe cblas_sgemm(
      CblasRowMajor, leftFlag, rightFlag, Int32(m), Int32(n), Int32(min(step, k - start)), 1, left + start, Int32(lda),
      right + start * ldb, Int32(ldb), start == 0 ? beta : 1, c, Int32(ldc))
    start += step
  } while start < k
}

/// How much of `k` a product of untransposed matrices may take at once, so that OpenBLAS does not call malloc: its
/// AVX-512 kernel for small products does where the last 16 columns are 8 or fewer and k ≥ 32.
@inline(__always) private func depthWithoutMalloc(m: Int, n: Int, k: Int) -> Int {
  (1...8).contains(n % 16) && k >= 32 && m * n * k <= 1_000_000 ? 31 : k
}

extension Operand {
  @inline(__always) fileprivate var parts: (UnsafePointer<Float>, Int, CBLAS_TRANSPOSE) {
    switch unsafe self {
    case .plain(let p, let ld): unsafe (p, ld, CblasNoTrans)
    case .transposed(let p, let ld): unsafe (p, ld, CblasTrans)
    }
  }
}
