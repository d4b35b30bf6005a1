import CBLAS
import CDiTKernels
import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The instruction sets the vector kernels exist for.
public enum InstructionSet: String, CaseIterable, Sendable {
  case portable, avx2, avx512

  /// The widest level that this CPU and its operating system support.
  public static var supported: InstructionSet { InstructionSet(dit_isa_supported()) }

  init(_ level: DiTISA) {
    switch level {
    case DiTISAAVX512, DiTISAAVX512BF16: self = .avx512
    case DiTISAAVX2: self = .avx2
    default: self = .portable
    }
  }

  var level: DiTISA {
    switch self {
    case .portable: DiTISAPortable
    case .avx2: DiTISAAVX2
    case .avx512: DiTISAAVX512
    }
  }
}

extension DiTError {
  /// `threads` is not in 1…1024, or the operating system refuses that many.
  package static func threads(_ count: Int) -> DiTError {
    DiTError(option: "threads", expected: "1 to 1024 that the system can start", found: "\(count)")
  }

  /// `DIT_ISA` names no level, or one this CPU does not have.
  package static func instructionSet(_ name: String, supported: InstructionSet) -> DiTError {
    DiTError(
      .option, Subject(.environment("DIT_ISA=\(name)")),
      problem: "expected portable, avx2 or avx512, and no more than this CPU's \(supported.rawValue)")
  }
}

/// Where the kernels run: a pool of workers, an instruction set, and OpenBLAS with one thread per call.
///
/// Making a context sets OpenBLAS to one thread **for the whole process**, because the products are cut over this
/// pool's workers and the two must not nest. Nothing happens at import. Several threads may share one context: their
/// kernels take turns. Work is cut by shape alone, never by the number of threads, so results do not depend on it.
@safe public final class ComputeContext: @unchecked Sendable {
  @usableFromInline let pool: OpaquePointer
  let kernels: DiTKernelTable
  /// Workers, the calling thread counted. No more of them run at once than there are processors
  /// (``availableProcessors``); the others sleep.
  public let threads: Int
  /// The level of the vector kernels.
  public let instructionSet: InstructionSet
  /// Whether products of bf16 are the CPU's own (AVX512_BF16). Otherwise they are computed in float32 from the same
  /// rounded operands: the results agree to rounding. Some CPUs have such products, but slower than those of float32.
  public let hasNativeBF16: Bool
  /// Whether products of int8 are the CPU's own (AVX512_VNNI, AVX-VNNI). Otherwise they are made of products of 16 bits,
  /// with the same results.
  public let hasNativeInt8: Bool

  /// - Parameters:
  ///   - threads: workers, 1…1024; by default ``defaultThreads``.
  ///   - instructionSet: by default `DIT_ISA` from the environment, else the widest supported.
  ///   - nativeBF16: whether to use the CPU's products of bf16 where the level is AVX-512 and it has them; by default
  ///     where they are the faster way, which the first context of the process measures.
  ///   - nativeInt8: whether to use the CPU's products of int8 where it has them; with those of bf16 they always are.
  public convenience init(
    threads: Int? = nil, instructionSet: InstructionSet? = nil, nativeBF16: Bool? = nil, nativeInt8: Bool = true
  ) throws(DiTError) {
    try self.init(
      threads: threads ?? Self.defaultThreads, workers: Self.availableProcessors, instructionSet: instructionSet,
      nativeBF16: nativeBF16, nativeInt8: nativeInt8)
  }

  /// - Parameter workers: how many of the threads may run at once; tests give more than there are processors.
  package init(
    threads count: Int, workers: Int, instructionSet: InstructionSet? = nil, nativeBF16: Bool? = nil,
    nativeInt8: Bool = true
  ) throws(DiTError) {
    let level = if let instructionSet { instructionSet } else { try Self.requestedInstructionSet() }
    let supported = dit_isa_supported()
    guard level.level.rawValue <= supported.rawValue else {
      throw .instructionSet(level.rawValue, supported: .supported)
    }
    unsafe pool = try Self.pool(of: count, workers: workers)
    hasNativeBF16 = level == .avx512 && supported == DiTISAAVX512BF16 && nativeBF16 ?? Self.nativeBF16Pays
    let isa = hasNativeBF16 ? DiTISAAVX512BF16 : level.level
    var table = unsafe dit_kernels(isa).pointee
    let native = unsafe nativeInt8 || hasNativeBF16 ? dit_native_int8(isa) : nil
    if let native = unsafe native { unsafe table.product_int8 = native }
    hasNativeInt8 = unsafe native != nil
    unsafe kernels = table
    self.threads = count
    self.instructionSet = level
  }

  /// A context that runs a table of the caller's: for tests that watch the calls of kernels.
  package init(threads: Int, kernels: DiTKernelTable) throws(DiTError) {
    unsafe pool = try Self.pool(of: threads, workers: threads)
    unsafe self.kernels = kernels
    self.threads = threads
    instructionSet = .portable
    hasNativeBF16 = false
    hasNativeInt8 = false
  }

  @unsafe private static func pool(of threads: Int, workers: Int) throws(DiTError) -> OpaquePointer {
    guard (1...1024).contains(threads),
      let pool = unsafe dit_pool_create(Int32(threads), Int32(clamping: workers))
    else {
      throw .threads(threads)
    }
    openblas_set_num_threads(1)
    return unsafe pool
  }

  deinit { unsafe dit_pool_destroy(pool) }

  private static let nativeBF16Pays = dit_bf16_pays() != 0

  /// Processors for the calling thread to use: on Linux its affinity (`taskset`, a cpuset), and no more than the quota of
  /// its control groups (v1 and v2, the tightest on the way up; a container's `--cpus`) is worth, rounded up; elsewhere
  /// those that are online.
  public static var availableProcessors: Int { Int(dit_available_processors()) }

  /// The threads of a context whose maker names no number: `OMP_NUM_THREADS` where it is set, else
  /// ``availableProcessors``; at most 1024.
  public static var defaultThreads: Int { environmentThreads ?? min(1024, availableProcessors) }

  /// What `OMP_NUM_THREADS` asks for, as OpenMP reads it: a positive number, or a list of which the first counts. Nil where
  /// it is not set or is no such thing, and then OpenMP's own libraries too go by the processors. At most 1024.
  public static var environmentThreads: Int? {
    guard let value = unsafe getenv("OMP_NUM_THREADS") else { return nil }
    let first = unsafe String(cString: value).prefix { $0 != "," }
    let digits = first.drop(while: \.isWhitespace)
    guard let end = digits.lastIndex(where: { !$0.isWhitespace }), let count = Int(digits[...end]), count > 0 else {
      return nil
    }
    return min(count, 1024)
  }

  private static func requestedInstructionSet() throws(DiTError) -> InstructionSet {
    guard let value = unsafe getenv("DIT_ISA") else { return .supported }
    let name = unsafe String(cString: value)
    guard let level = InstructionSet(rawValue: name) else { throw .instructionSet(name, supported: .supported) }
    return level
  }

  /// Runs `task.run(0 … count−1)` on the workers and returns when all have ended.
  ///
  /// Inlinable, so that it is specialized in the module of the task: the general form allocates.
  @inlinable package func parallel<Task: ParallelTask>(_ count: Int, _ task: Task) {
    unsafe withUnsafePointer(to: task) { task in
      var job = unsafe Job(
        invoke: { task, index, worker in
          unsafe task.assumingMemoryBound(to: Task.self).pointee.run(index, worker: worker)
        }, task: UnsafeRawPointer(task))
      unsafe withUnsafeMutablePointer(to: &job) { job in
        unsafe dit_pool_run(
          pool,
          { job, index, worker in
            let job = unsafe job.assumingMemoryBound(to: Job.self)
            unsafe job.pointee.invoke(job.pointee.task, index, worker)
          }, job, count)
      }
    }
  }
}

/// Independent pieces of work on raw memory. A struct rather than a closure, so that a step allocates nothing.
@usableFromInline package protocol ParallelTask {
  func run(_ index: Int, worker: Int)
}

@unsafe @usableFromInline struct Job {
  @usableFromInline let invoke: (UnsafeRawPointer, Int, Int) -> Void
  @usableFromInline let task: UnsafeRawPointer

  @inlinable init(invoke: @escaping (UnsafeRawPointer, Int, Int) -> Void, task: UnsafeRawPointer) {
    unsafe self.invoke = unsafe invoke
    unsafe self.task = unsafe task
  }
}
