import CBLAS
import CDiTKernels
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
    try #expect(ComputeContext().threads == ComputeContext.defaultThreads)
    for count in [-1, 0, 1025, .max] {
      let error = #expect(throws: DiTError.self) { try ComputeContext(threads: count) }
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

    @Test("The processors to use are those of the thread's affinity, and no more than the quota is worth")
    func affinity() throws {
      let quota = unsafe dit_quota_processors("")
      let allowed = try #require(Self.allowedProcessors)
      #expect(ComputeContext.availableProcessors == (quota > 0 ? min(allowed, Int(quota.rounded(.up))) : allowed))
      let found = Mutex<[Int?]>([])
      let group = DispatchGroup()
      Thread(group) {
        guard bind_thread_to_one_processor() == 0 else { return }
        found.withLock { $0 = [Self.allowedProcessors, ComputeContext.availableProcessors] }
      }
      group.wait()
      #expect(found.withLock { $0 } == [1, 1])
    }

    @Test("A quota of a part of a processor is worth a whole one, and never more than there are")
    func quotaRounding() {
      for (processors, quota, expected) in [
        (8, 0.5, 1), (8, 1, 1), (8, 1.0001, 2), (8, 2.5, 3), (8, 7.5, 8), (8, 8, 8), (2, 2.5, 2), (8, 64, 8), (8, 0, 8),
        (8, 1e300, 8), (1, 0.01, 1),
      ] {
        let found = dit_processors_of_quota(processors, quota)
        #expect(found == Int32(expected), "\(quota) of \(processors)")
      }
    }

    /// A folder that looks like the root of a system with these files.
    private struct System {
      let folder = FileManager.default.temporaryDirectory.appending(path: "quota-\(UUID().uuidString)")

      init(_ files: [String: String]) throws {
        for (path, text) in files {
          let file = folder.appending(path: path)
          try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
          try Data(text.utf8).write(to: file)
        }
      }

      /// The quota found in it, after which it is removed.
      func quota() -> Double {
        defer { try? FileManager.default.removeItem(at: folder) }
        return unsafe dit_quota_processors(folder.path)
      }
    }

    @Test("The tightest quota of the control groups counts, from the process's own up to the mount's root")
    func quotas() throws {
      let (v2, v1) = (
        "31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
        "33 32 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
      )
      let mounts = "22 1 8:1 / / rw - ext4 /dev/root rw\n23 22 0:21 / /proc rw shared:2 - proc proc rw\n"
      // Version 2: the process's own group has none, one above is tighter than the next.
      let nested = try System([
        "proc/self/mountinfo": mounts + v2, "proc/self/cgroup": "0::/user.slice/job/step\n",
        "sys/fs/cgroup/user.slice/cpu.max": "800000 100000\n",
        "sys/fs/cgroup/user.slice/job/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/user.slice/job/step/cpu.max": "max 100000\n",
      ])
      #expect(nested.quota() == 1.5)
      // A group above is tighter than the process's own.
      let above = try System([
        "proc/self/mountinfo": mounts + v2, "proc/self/cgroup": "0::/user.slice/job\n",
        "sys/fs/cgroup/user.slice/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/user.slice/job/cpu.max": "300000 100000\n",
      ])
      #expect(above.quota() == 0.5)
      let unlimited = try System([
        "proc/self/mountinfo": mounts + v2, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n",
      ])
      #expect(unlimited.quota() == 0)
      // Version 1, where cpuset is not the controller that is meant, and -1 is no quota.
      let first = try System([
        "proc/self/mountinfo": mounts + v1 + "34 32 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n",
        "proc/self/cgroup": "7:cpuset:/elsewhere\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n0::/\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us": "20000\n",
        "sys/fs/cgroup/cpu,cpuacct/elsewhere/cpu.cfs_quota_us": "1000\n",
        "sys/fs/cgroup/cpu,cpuacct/elsewhere/cpu.cfs_period_us": "100000\n",
      ])
      #expect(first.quota() == 2.5)
      // A container that sees its own part of the hierarchy at the mount, under the host's name for it.
      let container = try System([
        "proc/self/mountinfo": mounts
          + "33 32 0:30 /docker/abc /sys/fs/cgroup/cpu ro master:10 - cgroup cgroup rw,cpu\n",
        "proc/self/cgroup": "4:cpu:/docker/abc\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
      ])
      #expect(container.quota() == 3)
      // Both versions at once, and a system without control groups.
      let hybrid = try System([
        "proc/self/mountinfo": mounts + v1 + "35 32 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        "proc/self/cgroup": "4:cpu,cpuacct:/\n0::/a\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/unified/a/cpu.max": "200000 100000\n",
      ])
      #expect(hybrid.quota() == 2)
      try #expect(System(["proc/self/mountinfo": mounts]).quota() == 0)
    }
  #endif

  @Test("A context runs at the instruction set asked for, and refuses one the CPU lacks")
  func instructionSets() throws {
    for level in InstructionSet.allCases {
      if InstructionSet.runnable.contains(level) {
        try #expect(ComputeContext(threads: 1, instructionSet: level).instructionSet == level)
      } else {
        #expect(throws: DiTError.instructionSet(level.rawValue, supported: .supported)) {
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

  /// OpenBLAS multiplies no bf16; `auto` packs.
  @Test("Which products run follows precision, GEMM setting and instruction set")
  func choiceOfProducts() throws {
    #expect(Numerics() == Numerics(precision: .fp32, gemm: .auto))
    for gemm in GEMM.allCases {
      #expect(Numerics(gemm: gemm).isSupported)
      #expect(Numerics(precision: .bf16, gemm: gemm).isSupported == (gemm != .blas))
    }
    for level in InstructionSet.runnable {
      let context = try ComputeContext(threads: 1, instructionSet: level)
      #if arch(x86_64)
        #expect(Numerics().isPacked(on: context))
      #endif
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
          let error = #expect(throws: DiTError.self) { try context(name) }
          #expect(error == .instructionSet(name, supported: .supported))
          #expect(error?.description.hasPrefix("DIT_ISA=\(name): expected portable, avx2 or avx512") == true)
        }
        // What the program asks for goes before the environment.
        try #expect(ComputeContext(threads: 1, instructionSet: .portable).instructionSet == .portable)
        unsafe unsetenv("DIT_ISA")
        try #expect(ComputeContext(threads: 1).instructionSet == .supported)
      }
    }

    @Test("OMP_NUM_THREADS is the default number of threads where it is a number or a list of numbers")
    func environmentThreads() async {
      await #expect(processExitsWith: .success) {
        let processors = ComputeContext.availableProcessors
        for (value, expected) in [
          ("3", 3), ("4,2", 4), (" 5 ", 5), ("1", 1), ("9999", 1024), ("0", nil), ("-2", nil), ("", nil), ("all", nil),
          ("2.5", nil), (",2", nil),
        ] as [(String, Int?)] {
          unsafe setenv("OMP_NUM_THREADS", value, 1)
          #expect(ComputeContext.environmentThreads == expected, "\(value)")
          #expect(ComputeContext.defaultThreads == expected ?? processors, "\(value)")
        }
        unsafe setenv("OMP_NUM_THREADS", "3", 1)
        try #expect(ComputeContext().threads == 3)
        try #expect(ComputeContext(threads: 2).threads == 2)
        unsafe unsetenv("OMP_NUM_THREADS")
        #expect(ComputeContext.defaultThreads == processors)
      }
    }

    @Test("Operands of wrong sizes end the process")
    func misuseTraps() async {
      await #expect(processExitsWith: .failure) {
        let context = try ComputeContext(threads: 1)
        let memory = MutableFloatSlice(zeros: 6)
        let (y, x) = (
          MutableMatrix(memory, rows: 3, columns: 2), Matrix(FloatSlice([1, 2, 3, 4]), rows: 2, columns: 2)
        )
        context.product(into: y, x, x)
      }
      await #expect(processExitsWith: .failure) {
        _ = MutableMatrix(MutableFloatSlice(zeros: 5), rows: 3, columns: 2)
      }
      await #expect(processExitsWith: .failure) {
        let context = try ComputeContext(threads: 1)
        let (y, x) = (MutableFloatSlice(zeros: 2), Matrix(FloatSlice([1, 2, 3, 4]), rows: 2, columns: 2))
        let panels = context.pack(x, into: MutableFloatSlice(zeros: 128), as: .fp32)
        // A SwiGLU over panels that do not have both halves of its columns.
        context.product(into: MutableMatrix(y, rows: 2, columns: 1), x, panels, epilogue: .swiglu(sums: nil))
      }
      await #expect(processExitsWith: .failure) {
        let context = try ComputeContext(threads: 1)
        let (y, one) = (MutableFloatSlice(zeros: 4), FloatSlice([1, 1]))
        let (x, row) = (Matrix(FloatSlice([1, 2, 3, 4]), rows: 2, columns: 2), Matrix(one, rows: 1, columns: 2))
        // A weight of a LayerNorm.
        context.normModulate(
          output: MutableMatrix(y, rows: 2, columns: 2), mean: MutableFloatSlice(zeros: 2),
          rstd: MutableFloatSlice(zeros: 2), input: x, weight: one, shift: row, scale: row, epsilon: 1e-6, tokens: 2)
      }
      await #expect(processExitsWith: .failure) {
        let context = try ComputeContext(threads: 1)
        let x = MutableMatrix(MutableFloatSlice(zeros: 8), rows: 4, columns: 2)
        // Two samples and one key.
        context.dropout(x, rate: 0.5, tokens: 2, keys: ([1] as [UInt64]).span, stream: 0)
      }
      await #expect(processExitsWith: .failure) {
        let context = try ComputeContext(threads: 1)
        let x = MutableMatrix(MutableFloatSlice(zeros: 4), rows: 2, columns: 2)
        // A product over its own factor.
        context.product(into: x, x.reading, x.reading)
      }
      await #expect(processExitsWith: .failure) {
        let context = try ComputeContext(threads: 1)
        let (y, x) = (MutableFloatSlice(zeros: 4), Matrix(FloatSlice([1, 2, 3, 4]), rows: 2, columns: 2))
        // A factor whose rows lie over one another, by OpenBLAS.
        let flat = Matrix(FloatSlice([1, 2]), rows: 2, columns: 2, stride: 0)
        context.product(into: MutableMatrix(y, rows: 2, columns: 2), flat, x)
      }
      await #expect(processExitsWith: .failure) {
        let context = try ComputeContext(threads: 1)
        let (y, x) = (MutableFloatSlice(zeros: 4), Matrix(FloatSlice([1, 2, 3, 4]), rows: 2, columns: 2))
        let activation = MutableMatrix(MutableFloatSlice(zeros: 2), rows: 2, columns: 2, format: .bf16)
        // An activation of another format than the preactivation's.
        context.product(
          into: MutableMatrix(y, rows: 2, columns: 2), x, x,
          epilogue: .geluBackward(preactivation: x, activation: .rows(activation)))
      }
      await #expect(processExitsWith: .success) {
        let context = try ComputeContext(threads: 1)
        let (y, x) = (MutableFloatSlice(zeros: 4), Matrix(FloatSlice([1, 2, 3, 4]), rows: 2, columns: 2))
        let activation = MutableMatrix(MutableFloatSlice(zeros: 4), rows: 2, columns: 2)
        context.product(
          into: MutableMatrix(y, rows: 2, columns: 2), x, x,
          epilogue: .geluBackward(preactivation: x, activation: .rows(activation)))
      }
      await #expect(processExitsWith: .failure) {
        // 3 · 2 bf16 need 3 floats.
        _ = MutableMatrix(MutableFloatSlice(zeros: 2), rows: 3, columns: 2, format: .bf16)
      }
      await #expect(processExitsWith: .failure) {
        addEmbedding(
          output: MutableFloatSlice(zeros: 4).mutableSpan, table: MutableFloatSlice(zeros: 8).span, labels: [2].span,
          width: 4)
      }
      await #expect(processExitsWith: .failure) {
        _ = PatchGrid(channels: 1, height: 8, width: 6, patchSize: 4)
      }
      await #expect(processExitsWith: .failure) {
        sinCosPositions(output: MutableFloatSlice(zeros: 60).mutableSpan, rows: 2, columns: 5, width: 6)
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
  @Test("LAPACK is linked and factorizes a known matrix")
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
