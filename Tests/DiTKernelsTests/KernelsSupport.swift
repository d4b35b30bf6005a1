import DiTKernels
import TestSupport

/// A table of kernels: an instruction set, AVX-512 with and without products of bf16 and int8 of its own.
struct Level: CustomStringConvertible, Sendable {
  let instructionSet: InstructionSet
  let nativeBF16: Bool

  static let all: [Level] = {
    let widest = InstructionSet.supported
    let native = (try? ComputeContext(threads: 1, instructionSet: widest, nativeBF16: true))?.hasNativeBF16 == true
    return InstructionSet.runnable.map { Level(instructionSet: $0, nativeBF16: false) }
      + (native ? [Level(instructionSet: widest, nativeBF16: true)] : [])
  }()

  func context(threads: Int = 2) throws -> ComputeContext {
    try ComputeContext(
      threads: threads, workers: threads, instructionSet: instructionSet, nativeBF16: nativeBF16, nativeInt8: false)
  }

  var description: String { instructionSet.rawValue + (nativeBF16 ? " with its own bf16" : "") }
}
