import BenchKernelCases
import DiTEngine

/// Kernels that are not plain products: the cases of the tests that say how large they are in a network.
enum Kernels: Section {
  static let name = "kernels"
  static let note = """
    Sizes of DiT-B/2 at batch 8: 2048 rows of 768, 3072 in the MLP; optimizer kernels on 16 Mi weights. Bytes are of the \
    arrays named: r read, w written. Attention counts 4·N·L²·D operations, its backward pass 10·N·L²·D.
    """

  static func run(_ session: Session) throws {
    for speed in session.wanted(KernelCases.measured, name: \.name) {
      let operands = Operands(speed.kernel.inputs, isGuarded: false)
      let time = Measurement(budget: 0.4, speed.kernel.prepare(operands, session.context))
      try session.add(speed.name, Field.time(time) + fields(speed.work, time, session.peaks.fp32))
    }
  }

  /// The same columns for both kinds of work.
  private static func fields(_ work: KernelSpeed.Work, _ time: Measurement, _ peak: Double) -> [Field] {
    switch work {
    case .bytes(let arrays, let count):
      let rate = Double(count) / time.median * 1e-9
      return [
        Field("moved", "\(arrays): \(threeDigits(Double(count) * 1e-6)) MB", ["bytes": Double(count)]),
        Field("GB/s", "gigabytes_per_second", rate), Field("GFLOP/s", "", [:]), Field("share of peak", "", [:]),
      ]
    case .operations(let operations):
      return [Field("moved", "", [:]), Field("GB/s", "", [:])] + Field.rate(operations, time, peak: peak)
    }
  }
}
