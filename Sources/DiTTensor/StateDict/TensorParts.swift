import Synchronization

/// A tensor's elements, or rows of several tensors that are put together when they are asked for.
///
/// What is put together is kept as long as somebody holds it: a network that packs its weights takes each once and lets it go,
/// so that its memory is never that of all of them.
public struct TensorParts: Sendable {
  private let parts: [FloatSlice]
  private let joined: Joined?
  /// The number of elements.
  public let count: Int

  public init(_ slice: FloatSlice) {
    (parts, joined, count) = ([slice], nil, slice.count)
  }

  /// The elements of all parts, one part after another.
  public init(joining parts: [FloatSlice]) {
    self.parts = parts
    joined = parts.count == 1 ? nil : Joined()
    count = parts.reduce(0) { $0 + $1.count }
  }

  /// Whether the elements lie in several places.
  public var isJoined: Bool { joined != nil }

  /// All elements.
  public var slice: FloatSlice { joined?.slice(of: parts, count: count) ?? parts[0] }

  /// The first element that is NaN or infinite, and its place among all; nil where all are finite. Nothing is put together.
  public var firstNotFinite: (index: Int, value: Float)? {
    var start = 0
    for part in parts {
      if let bad = part.span.firstNotFinite { return (start + bad, part[bad]) }
      start += part.count
    }
    return nil
  }

  /// Says that the elements will not be read soon: see ``FloatSlice/releasePages()``.
  public func releasePages() { for part in parts { part.releasePages() } }

  /// The elements put together, as long as they are held.
  private final class Joined: Sendable {
    private struct Held {
      weak var buffer: Buffer?
    }

    private let held = Mutex(Held())

    func slice(of parts: [FloatSlice], count: Int) -> FloatSlice {
      held.withLock { held in
        if let buffer = held.buffer { return FloatSlice(buffer) }
        let made = MutableFloatSlice(uninitialized: count)
        var start = 0
        for part in parts {
          made[start..<start + part.count].copy(from: part.span)
          part.releasePages()
          start += part.count
        }
        held.buffer = made.buffer
        return made.reading
      }
    }
  }
}
