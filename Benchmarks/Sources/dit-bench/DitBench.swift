import DiffusionTransformers
import Foundation

/// Times the engine on this machine: the float32 peak, forward passes, training steps.
///
/// Verifies before it times; refuses debug builds. `swift run -c release dit-bench [THREADS]`
@main
struct DitBench {
  static func main() throws {
    #if DEBUG
      refuse("a debug build says nothing about speed; use swift run -c release dit-bench")
    #else
      let threads = CommandLine.arguments.dropFirst().first.map { Int($0) } ?? 2
      guard let threads, let context = try? ComputeContext(threads: threads) else {
        refuse("expected a number of threads, found \(CommandLine.arguments[1])")
      }
      try run(context)
    #endif
  }

  static func refuse(_ reason: String) -> Never {
    FileHandle.standardError.write(Data("Error: \(reason)\n".utf8))
    exit(64)
  }

  static func run(_ context: ComputeContext) throws {
    let blas = BLASReport.current
    let peak = fp32Peak(threads: context.threads)
    print("ISA \(context.instructionSet.rawValue), OpenBLAS core \(blas.core), \(context.threads) threads")
    if blas.isNarrowed { print("warning: OpenBLAS runs a narrower core than this CPU has; unset OPENBLAS_CORETYPE") }
    print("fp32 peak \(rounded(peak)) GFLOP/s")
    print("work | ms (median) | fastest–slowest | GFLOP/s | share of peak")
    print("---|---|---|---|---")

    for (name, samples) in [("DiT-S/2", 1), ("DiT-B/2", 1), ("DiT-B/2", 2)] {
      let work = Workload(DiTConfiguration.published(name)!, samples: samples, context: context)
      try verify(work, name)
      report("forward \(name), batch \(samples)", work.forward(count: 9), 2 * work.multiplyAdds, peak)
    }
    let training = Workload(DiTConfiguration.published("DiT-S/2")!, samples: 8, context: context)
    report("training step DiT-S/2, batch 8", training.trainingStep(count: 3), 6 * training.multiplyAdds, peak)
    let digits = DiTConfiguration(
      inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 1, hiddenSize: 128, depth: 6, numHeads: 4,
      numClasses: 10)
    let small = Workload(digits, samples: 128, context: context)
    report("training step digits, batch 128", small.trainingStep(count: 9), 6 * small.multiplyAdds, peak)
    print("fp32 peak afterwards \(rounded(fp32Peak(threads: context.threads))) GFLOP/s")
  }

  struct Disagreement: Error, CustomStringConvertible {
    let description: String
  }

  static func verify(_ work: Workload, _ name: String) throws {
    let difference = work.disagreement()
    guard difference < 1e-5 else {
      throw Disagreement(description: "\(name): two forward passes differ by \(difference); nothing was timed")
    }
  }

  static func report(_ name: String, _ time: Measurement, _ operations: Double, _ peak: Double) {
    let rate = operations / time.median * 1e-9
    print(
      "\(name) | \(rounded(time.median * 1e3)) | \(rounded(time.fastest * 1e3))–\(rounded(time.slowest * 1e3))"
        + " | \(rounded(rate)) | \(rounded(100 * rate / peak)) %")
  }

  static func rounded(_ value: Double) -> String {
    let tenths = (value * 10).rounded() / 10
    return "\(tenths)"
  }
}
