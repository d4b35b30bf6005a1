import CDiTMPI
import DiTTensor
import Foundation

/// The ranks that an MPI launcher started.
///
/// Calls are begun and then asked for, not waited for inside the library: a rank that waits gives its processor to whoever has work,
/// and says so where the others do not come.
public final class MPICommunicator: Communicator, @unchecked Sendable {
  public let library: MPILibrary
  public let rank: Int
  public let size: Int
  /// How many threads may call.
  public let threads: Threads
  /// How long a call may wait for other ranks before that is an error.
  public let patience: Duration
  /// The library's stream of calls.
  private let channel: Int32

  /// What a library allows threads to call.
  public enum Threads: Int32, Sendable {
    /// The one that started it.
    case one = 0
    /// Any, one at a time.
    case serialized = 1
    case several = 2
  }

  /// The seconds of ``patience``, half an hour where it is not set.
  public static let patienceVariable = "DIT_MPI_TIMEOUT"

  /// Starts MPI; once in a process.
  ///
  /// - Throws: `DiTError` where there is no library, it does not start, or it has other ranks than its launcher started: a library
  ///   of another family than the launcher's finds itself alone in each of N processes, which would all write the same files.
  public convenience init() throws(DiTError) {
    let environment = ProcessInfo.processInfo.environment
    try self.init(MPILibrary(environment), environment)
  }

  package init(_ library: MPILibrary, _ environment: [String: String]) throws(DiTError) {
    (self.library, channel) = (library, 0)
    patience = try Self.patience(environment[Self.patienceVariable])
    let launcher = Launcher(environment)
    // Open MPI would end the process in a way of its own, or find itself alone. MPICH's kin have other ways to find each other.
    if library.abi == .openMPI, let launcher, let started = launcher.size, started > 1, !launcher.hasInterface {
      throw DiTError(
        option: "distributed", expected: "\(started) ranks, as many as \(launcher.name) started",
        found:
          "processes that were not told of each other: srun takes --mpi=pmix (Open MPI) or --mpi=pmi2 (MPICH's kin)")
    }
    var (rank, size, level) = (Int32(0), Int32(1), Int32(0))
    let code = unsafe dit_mpi_start(library.pointer, &rank, &size, &level)
    guard code == 0 else {
      throw DiTError(
        option: "distributed", expected: "an MPI that starts",
        found: "\(library.version): \(code < 0 ? "started already" : "error \(code)")")
    }
    (self.rank, self.size) = (Int(rank), Int(size))
    threads = Threads(rawValue: level) ?? .one
    guard threads != .one else {
      throw DiTError(
        option: "distributed", expected: "an MPI that any thread may call",
        found: "\(library.version), which only one may")
    }
    guard let launcher, let started = launcher.size, started != Int(size) else { return }
    throw DiTError(
      option: "distributed", expected: "\(started) ranks, as many as \(launcher.name) started",
      found:
        "\(size) by \(library.version) (\(library.path)): it is of another family than the launcher, or without its support; "
        + "\(MPILibrary.variable) names another, and srun takes --mpi=pmix or --mpi=pmi2")
  }

  private init(of other: MPICommunicator, channel: Int32) {
    (library, rank, size, threads) = (other.library, other.rank, other.size, other.threads)
    (patience, self.channel) = (other.patience, channel)
  }

  public var background: any Communicator { MPICommunicator(of: self, channel: 1) }

  /// - Throws: `DiTError` for a text that is no number of seconds above 0.
  package static func patience(_ text: String?) throws(DiTError) -> Duration {
    guard let text else { return .seconds(1800) }
    guard let seconds = Double(text), seconds > 0, seconds <= 1e9 else {
      throw DiTError(
        .option, DiTError.Subject(.environment("\(patienceVariable)=\(text)")), expected: "seconds above 0", found: text
      )
    }
    return .seconds(seconds)
  }

  /// Ends MPI; all ranks call it, and none after it.
  public func finish() { _ = unsafe dit_mpi_finish(library.pointer) }

  /// Ends all ranks at once with an exit status. What is to be read must have been written.
  public func abort(status: Int32) -> Never { unsafe dit_mpi_abort(library.pointer, status) }

  private static let subject = DiTError.Subject(.entry("MPI"))

  // MARK: Calls

  public func exchange(
    _ source: FloatSlice, _ parts: [Range<Int>], into target: MutableFloatSlice, _ places: [Range<Int>]
  ) throws(DiTError) {
    let (sent, got) = (Extents(parts), Extents(places))
    precondition(parts.count == size && places.count == size, "a part and a place for each of \(size) ranks")
    precondition(source.count >= sent.end && target.count >= got.end, "parts beyond a buffer")
    defer { withExtendedLifetime((sent, got)) {} }
    try call("all-to-all") { (request: inout DiTMPIRequest) in
      unsafe dit_mpi_all_to_all(
        library.pointer, channel, source.pointer, sent.counts, sent.starts, target.pointer, got.counts, got.starts,
        &request)
    }
  }

  public func gather(_ buffer: MutableFloatSlice, _ parts: [Range<Int>]) throws(DiTError) {
    let extents = Extents(parts)
    precondition(parts.count == size && buffer.count >= extents.end, "a part for each of \(size) ranks")
    defer { withExtendedLifetime(extents) {} }
    try call("all-gather") { (request: inout DiTMPIRequest) in
      unsafe dit_mpi_all_gather_in_place(
        library.pointer, channel, buffer.pointer, extents.counts, extents.starts, &request)
    }
  }

  public func gather(_ bytes: [UInt8]) throws(DiTError) -> [[UInt8]] {
    guard !bytes.isEmpty else { return [[UInt8]](repeating: [], count: size) }
    let count = bytes.count
    var all = [UInt8](repeating: 0, count: count * size)
    // Both stay where they are until the call is done.
    var own = bytes
    try unsafe own.withUnsafeMutableBufferPointer { own throws(DiTError) in
      try unsafe all.withUnsafeMutableBufferPointer { all throws(DiTError) in
        let (from, to) = (own.baseAddress!, all.baseAddress!)
        try call("all-gather") { unsafe dit_mpi_all_gather(library.pointer, channel, from, Int32(count), to, &$0) }
      }
    }
    return (0..<size).map { Array(all[$0 * count..<($0 + 1) * count]) }
  }

  public func broadcast(_ bytes: [UInt8]) throws(DiTError) -> [UInt8] {
    let count = try gather([Double(bytes.count)])[0][0]
    var all = isFirst ? bytes : [UInt8](repeating: 0, count: Int(count))
    try unsafe all.withUnsafeMutableBufferPointer { all throws(DiTError) in
      guard let start = all.baseAddress else { return }
      try call("broadcast") { (request: inout DiTMPIRequest) in
        unsafe dit_mpi_broadcast(library.pointer, channel, start, Int32(count), 0, &request)
      }
    }
    return all
  }

  /// Waits as long as it takes: what ranks do alone (sampling, decoding) may last.
  public func barrier() throws(DiTError) {
    try call("barrier", patience: .seconds(1 << 40)) { unsafe dit_mpi_barrier(library.pointer, channel, &$0) }
  }

  /// Begins a call, and waits for its end.
  private func call(_ name: String, patience: Duration? = nil, _ begin: (inout DiTMPIRequest) -> Int32) throws(DiTError)
  {
    var request = DiTMPIRequest()
    try check(begin(&request), name)
    let patience = patience ?? self.patience
    var wait = Wait(patience)
    while true {
      var isDone = false
      try check(unsafe dit_mpi_test(library.pointer, &request, &isDone), name)
      if isDone { return }
      guard wait.rest() else {
        throw DiTError(
          .communication, Self.subject, expected: "every rank within \(patience)",
          found: "rank \(rank) of \(size) alone in an \(name): a rank or its network is gone, or far behind "
            + "(\(Self.patienceVariable) says how many seconds to wait)")
      }
    }
  }

  private func check(_ code: Int32, _ name: String) throws(DiTError) {
    guard code != 0 else { return }
    throw DiTError(
      .communication, Self.subject, expected: "an \(name) of \(size) ranks",
      found: "on rank \(rank): \(library.words(code))")
  }
}

/// Parts of a buffer of floats in bytes, where the library finds them until a call is done.
@safe private final class Extents {
  let counts, starts: UnsafeMutablePointer<Int32>
  /// Floats up to the last one's end.
  let end: Int

  init(_ parts: [Range<Int>]) {
    let size = MemoryLayout<Float>.size
    unsafe counts = .allocate(capacity: parts.count)
    unsafe starts = .allocate(capacity: parts.count)
    for (rank, part) in parts.enumerated() {
      unsafe counts[rank] = Int32(part.count * size)
      unsafe starts[rank] = Int32(part.lowerBound * size)
    }
    end = parts.reduce(0) { max($0, $1.upperBound) }
  }

  deinit {
    unsafe counts.deallocate()
    unsafe starts.deallocate()
  }
}
