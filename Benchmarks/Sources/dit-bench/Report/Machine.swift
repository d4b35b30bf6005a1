import DiTEngine
import Foundation

/// What the numbers were measured on.
struct Machine: Encodable {
  let cpu: String
  /// Processors that this process may use, and the threads that the engine uses.
  let processors, threads: Int
  let isa: String
  let blasCore, blasConfiguration: String
  /// Whether OpenBLAS runs narrower kernels than the CPU has.
  let blasIsNarrowed: Bool
  let fp32PeakGflops: Double
  let bf16PeakGflops: Double?

  init(_ context: ComputeContext, _ peaks: Peaks) {
    let blas = BLASReport.current
    cpu = Self.cpuName
    processors = ComputeContext.availableProcessors
    threads = context.threads
    isa = context.instructionSet.rawValue
    blasCore = blas.core
    blasConfiguration = blas.configuration
    blasIsNarrowed = blas.isNarrowed
    fp32PeakGflops = peaks.fp32
    bf16PeakGflops = peaks.bf16
  }

  var markdown: String {
    let warning =
      blasIsNarrowed ? "\n- warning: OpenBLAS runs a narrower core than this CPU has; unset OPENBLAS_CORETYPE" : ""
    return """
      - CPU: \(cpu), \(processors) processors; \(threads) threads used
      - ISA \(isa); OpenBLAS core \(blasCore) (\(blasConfiguration))\(warning)
      - peak of multiply-adds in registers, GFLOP/s: fp32 \(threeDigits(fp32PeakGflops)), \
      bf16 \(bf16PeakGflops.map(threeDigits) ?? "none"); shares are of the peak at the start of their section
      """
  }

  /// As /proc/cpuinfo names it.
  static var cpuName: String {
    let lines = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8))?.split(separator: "\n") ?? []
    let name = lines.first { $0.hasPrefix("model name") }?.split(separator: ":", maxSplits: 1).last
    return name?.trimmingCharacters(in: .whitespaces) ?? "unknown"
  }
}
