import CKernelsTestSupport
import DiTKernels
import Testing

/// The determinism cases of `EveryKernel.swift` against the table of kernels.
@Suite struct KernelTableTests {
  /// The cases run over a table whose kernels only count their calls. Its list is the one that the table is made of
  /// (`kernels.def`), so that a new kernel is found here until a case calls it.
  @Test("Every kernel of the table is in a determinism case") func everyKernelHasACase() throws {
    _ = everyKernel(try unsafe ComputeContext(threads: 2, kernels: counting_kernels))
    let count = counting_kernels_count()
    let missing = (0..<count).filter { counting_kernels_calls($0) == 0 }
      .map { unsafe String(cString: counting_kernels_name($0)) }
    #expect(count > 0 && missing == [], "in no case of everyKernel: \(missing.joined(separator: ", "))")
  }
}
