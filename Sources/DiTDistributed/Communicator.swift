import DiTTensor

/// The processes of one run, its ranks, and what they say to each other.
///
/// All ranks make the same calls in the same order; a call returns when this rank has what it is to get. One thread at a time, and
/// another one with ``background``.
public protocol Communicator: AnyObject {
  /// 0 … ``size`` − 1.
  var rank: Int { get }
  /// P.
  var size: Int { get }

  /// Sends `parts[r]` of `source` to rank r, and puts what rank r sends here at `places[r]` of `target`.
  ///
  /// - Precondition: `parts[r]` here and `places[s]` on rank r, s being this rank, have equal counts.
  func exchange(
    _ source: FloatSlice, _ parts: [Range<Int>], into target: MutableFloatSlice, _ places: [Range<Int>]
  ) throws(DiTError)

  /// Gives every rank every rank's part of a buffer; `parts[rank]` is there already.
  func gather(_ buffer: MutableFloatSlice, _ parts: [Range<Int>]) throws(DiTError)

  /// Every rank's bytes, in the order of the ranks; on all ranks equally many.
  func gather(_ bytes: [UInt8]) throws(DiTError) -> [[UInt8]]

  /// Gives every rank rank 0's bytes; the others' are ignored.
  func broadcast(_ bytes: [UInt8]) throws(DiTError) -> [UInt8]

  /// Waits until every rank has come here.
  func barrier() throws(DiTError)

  /// The same ranks for calls of another thread, whose order is its own: always the same second stream of calls.
  var background: any Communicator { get }
}

extension Communicator {
  /// Whether this rank writes what a run writes once.
  public var isFirst: Bool { rank == 0 }

  /// Every rank's numbers, in the order of the ranks; on all ranks equally many.
  package func gather(_ numbers: [Double]) throws(DiTError) -> [[Double]] {
    try gather(numbers.flatMap { Self.bytes(of: $0.bitPattern) }).map { bytes in
      stride(from: 0, to: bytes.count, by: 8).map { Double(bitPattern: Self.word(bytes[$0..<$0 + 8])) }
    }
  }

  /// Every rank's text, in the order of the ranks, of any lengths.
  package func gather(_ text: String) throws(DiTError) -> [String] {
    let own = Array(text.utf8)
    let counts = try gather(Self.bytes(of: UInt64(own.count))).map { Int(Self.word($0[...])) }
    let longest = counts.max() ?? 0
    let padded = own + [UInt8](repeating: 0, count: longest - own.count)
    let all = try gather(padded)
    return zip(all, counts).map { String(decoding: $0[..<$1], as: UTF8.self) }
  }

  private static func bytes(of word: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }

  private static func word(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}

/// One process by itself: nothing is sent.
public final class SingleProcess: Communicator, Sendable {
  public var rank: Int { 0 }
  public var size: Int { 1 }

  public init() {}

  public func exchange(
    _ source: FloatSlice, _ parts: [Range<Int>], into target: MutableFloatSlice, _ places: [Range<Int>]
  ) {
    target[places[0]].copy(from: source[parts[0]].span)
  }

  public func gather(_ buffer: MutableFloatSlice, _ parts: [Range<Int>]) {}
  public func gather(_ bytes: [UInt8]) -> [[UInt8]] { [bytes] }
  public func broadcast(_ bytes: [UInt8]) -> [UInt8] { bytes }
  public func barrier() {}
  public var background: any Communicator { self }
}
