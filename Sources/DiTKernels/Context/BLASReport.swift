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
  /// For programs that are linked with OpenBLAS, first in `main`. Returns where the core fits or was chosen by that
  /// variable, and where a program cannot be started again; then the core is as it was.
  public static func restartIfNarrowed() {
    #if canImport(Glibc)
      guard current.isNarrowed, unsafe getenv(variable) == nil else { return }
      unsafe setenv(variable, InstructionSet.supported == .avx512 ? "SkylakeX" : "Haswell", 0)
      unsafe execv("/proc/self/exe", CommandLine.unsafeArgv)
      unsafe unsetenv(variable)
    #endif
  }
}
