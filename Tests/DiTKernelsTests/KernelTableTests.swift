import CKernelsTestSupport
import DiTKernels
import TestSupport
import Testing

/// The cases against the table of kernels: they run over one whose kernels only count their calls. Its list is the one that
/// the table is made of (`kernels.def`).
@Suite struct KernelTableTests {
  private static let names = (0..<counting_kernels_count()).map { unsafe String(cString: counting_kernels_name($0)) }

  @Test("Every kernel of the table is in a case, and every case calls the kernels that it names")
  func everyKernelHasACase() throws {
    let context = try unsafe ComputeContext(threads: 2, kernels: counting_kernels)
    var called: Set<String> = []
    for kernel in KernelCases.all {
      let before = Self.names.indices.map { counting_kernels_calls($0) }
      _ = kernel.run(context, kernel.inputs)
      let calls = Self.names.indices.filter { counting_kernels_calls($0) > before[$0] }.map { Self.names[$0] }
      #expect(Set(calls) == kernel.kernels, "\(type(of: kernel)) \(kernel)")
      called.formUnion(calls)
    }
    let missing = Set(Self.names).subtracting(called)
    #expect(!Self.names.isEmpty && missing.isEmpty, "in no case: \(missing.sorted())")
  }
}
