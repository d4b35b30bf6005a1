import CBLAS
import CKernelsTestSupport
import DiTKernels
import DiTTensor
import Foundation
import Synchronization
import TestSupport
import Testing

/// Where kernels run: threads, instruction sets, the environment, BLAS, and what misuse does. What changes the
/// environment or ends the process runs in a process of its own.
@Suite("Where kernels run: threads, instruction sets, environment, BLAS and misuse") struct ContextTests {
  @Test("A context has the threads asked for, and impossible numbers are refused")
  func threadCounts() throws {
    for count in [1, 2, 5] { try #expect(ComputeContext(threads: count).threads == count) }
    try #expect(ComputeContext().threads == ComputeContext.availableProcessors)
    for count in [-1, 0, 1025, .max] {
      let error = #expect(throws: ComputeError.self) { try ComputeContext(threads: count) }
      #expect(error == .threads(count))
      #expect(error?.description.contains("\(count)") == true)
    }
  }

  #if os(Linux)
    /// As /proc/thread-self/status has it: hexadecimal, a comma after every eight digits.
    private static var allowedProcessors: Int? {
      let status = try? String(contentsOfFile: "/proc/thread-self/status", encoding: .utf8)
      let line = status?.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed:") }
      return line?.dropFirst("Cpus_allowed:".count).compactMap { $0.hexDigitValue?.nonzeroBitCount }.reduce(0, +)
    }

    @Test("The processors to use are those of the thread's affinity") func affinity() throws {
      #expect(ComputeContext.availableProcessors == Self.allowedProcessors)
      let found = Mutex<[Int?]>([])
      let group = DispatchGroup()
      Thread(group) {
        guard bind_thread_to_one_processor() == 0 else { return }
        let threads = try? ComputeContext().threads
        found.withLock { $0 = [Self.allowedProcessors, ComputeContext.availableProcessors, threads] }
      }
      group.wait()
      #expect(found.withLock { $0 } == [1, 1, 1])
    }
  #endif

  @Test("A context runs at the instruction set asked for, and refuses one the CPU lacks")
  func instructionSets() throws {
    for level in InstructionSet.allCases {
      if InstructionSet.runnable.contains(level) {
        try #expect(ComputeContext(threads: 1, instructionSet: level).instructionSet == level)
      } else {
        #expect(throws: ComputeError.instructionSet(level.rawValue, supported: .supported)) {
          try ComputeContext(threads: 1, instructionSet: level)
        }
      }
    }
  }

  /// Products of bf16 are the CPU's own where it has them, AVX-512 is the level, and the caller does not forbid them.
  @Test("The CPU's own bf16 products are used at AVX-512 only, and can be turned off")
  func nativeBF16() throws {
    for level in InstructionSet.runnable {
      try #expect(!ComputeContext(threads: 1, instructionSet: level, nativeBF16: false).hasNativeBF16)
      guard level != .avx512 else { continue }
      try #expect(!ComputeContext(threads: 1, instructionSet: level).hasNativeBF16, "\(level)")
    }
  }

  /// OpenBLAS multiplies no bf16; `auto` packs at AVX-512 and for bf16.
  @Test("Which products run follows precision, GEMM setting and instruction set")
  func choiceOfProducts() throws {
    #expect(Numerics() == Numerics(precision: .fp32, gemm: .auto))
    for gemm in GEMM.allCases {
      #expect(Numerics(gemm: gemm).isSupported)
      #expect(Numerics(precision: .bf16, gemm: gemm).isSupported == (gemm != .blas))
    }
    for level in InstructionSet.runnable {
      let context = try ComputeContext(threads: 1, instructionSet: level)
      #expect(Numerics().isPacked(on: context) == (level == .avx512))
      #expect(Numerics(precision: .bf16).isPacked(on: context))
      #expect(Numerics(gemm: .packed).isPacked(on: context) && !Numerics(gemm: .blas).isPacked(on: context))
    }
  }

  #if os(Linux) || os(macOS)
    @Test("DIT_ISA chooses the instruction set unless the program does, and unknown names are refused")
    func environment() async {
      await #expect(processExitsWith: .success) {
        func context(_ name: String) throws -> ComputeContext {
          unsafe setenv("DIT_ISA", name, 1)
          return try ComputeContext(threads: 1)
        }
        for level in InstructionSet.runnable { try #expect(context(level.rawValue).instructionSet == level) }
        for name in ["sse9", "", "AVX2", "avx2 "] {
          let error = #expect(throws: ComputeError.self) { try context(name) }
          #expect(error == .instructionSet(name, supported: .supported))
          #expect(error?.description.hasPrefix("DIT_ISA=\(name): expected portable, avx2 or avx512") == true)
        }
        // What the program asks for goes before the environment.
        try #expect(ComputeContext(threads: 1, instructionSet: .portable).instructionSet == .portable)
        unsafe unsetenv("DIT_ISA")
        try #expect(ComputeContext(threads: 1).instructionSet == .supported)
      }
    }

    @Test("Operands of wrong sizes end the process")
    func misuseTraps() async {
      await #expect(processExitsWith: .failure) {
        let context = try ComputeContext(threads: 1)
        let y = Slice(zeros: 5)
        context.linear(
          output: y.mutableSpan, input: Slice(zeros: 6).span, weight: Slice(zeros: 6).span, bias: Slice(zeros: 2).span,
          rows: 3, inputs: 2, outputs: 2)
      }
      await #expect(processExitsWith: .failure) {
        let context = try ComputeContext(threads: 1)
        // 3 · 2 bf16 need 3 floats.
        context.packedLinear(
          output: Slice(zeros: 2).mutableBytes, .bf16, input: Slice(zeros: 6).bytes, packed: Slice(zeros: 128).bytes,
          .fp32, bias: Slice(zeros: 2).span, addingRows: Slice(zeros: 0).span, rows: 3, inputs: 2, outputs: 2)
      }
      await #expect(processExitsWith: .failure) {
        addEmbedding(output: Slice(zeros: 4).mutableSpan, table: Slice(zeros: 8).span, labels: [2].span, width: 4)
      }
      await #expect(processExitsWith: .failure) {
        _ = PatchGrid(channels: 1, height: 8, width: 6, patchSize: 4)
      }
      await #expect(processExitsWith: .failure) {
        sinCosPositions(output: Slice(zeros: 60).mutableSpan, rows: 2, columns: 5, width: 6)
      }
    }
  #endif

  @Test("OpenBLAS is reported and starts no threads of its own")
  func blasReport() throws {
    let report = BLASReport.current
    #expect(report == BLASReport.current)
    #expect(report.configuration.hasPrefix("OpenBLAS "))
    #expect(!report.core.isEmpty && report.core.allSatisfy { $0.isASCII && !$0.isWhitespace })
    #expect(!report.isNarrowed || InstructionSet.supported != .portable)
    _ = try ComputeContext(threads: 2)
    #expect(openblas_get_num_threads() == 1, "the pool and OpenBLAS must not both start threads")
  }

  /// LAPACKE is linked: A = L Lᵀ for an A whose factor has whole numbers, lower triangle, row-major.
  @Test("LAPACK is linked and factorises a known matrix")
  func cholesky() {
    let n = 3
    let a: [Double] = [4, 12, -16, 12, 37, -43, -16, -43, 98]
    var l = a
    let status = unsafe l.withUnsafeMutableBufferPointer {
      unsafe LAPACKE_dpotrf(LAPACK_ROW_MAJOR, CChar(UInt8(ascii: "L")), Int32(n), $0.baseAddress, Int32(n))
    }
    #expect(status == 0)
    #expect([l[0], l[3], l[4], l[6], l[7], l[8]] == [2, 6, 1, -8, 5, 3])
    var indefinite: [Double] = [1, 2, 2, 1]
    let refused = unsafe indefinite.withUnsafeMutableBufferPointer {
      unsafe LAPACKE_dpotrf(LAPACK_ROW_MAJOR, CChar(UInt8(ascii: "L")), 2, $0.baseAddress, 2)
    }
    #expect(refused == 2, "the second leading minor is not positive")
  }
}
