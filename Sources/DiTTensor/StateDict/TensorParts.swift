import Synchronization

/// A tensor's elements: where they lie as Floats, or how these are made when they are asked for, from a narrower format of a
/// file or from rows of several tensors.
///
/// What is made is kept as long as somebody holds it: a network that packs its weights takes each once and lets it go, so that
/// its memory is never that of all of them.
public struct TensorParts: Sendable {
  private indirect enum Contents {
    case stored(FloatSlice)
    case joined([TensorParts], Made)
    case made(@Sendable () -> FloatSlice, release: @Sendable () -> Void, firstNotFinite: Finder?, Made)
  }

  /// Finds the first element that is NaN or infinite without making any.
  public typealias Finder = @Sendable () -> (index: Int, value: Float)?

  private let contents: Contents
  /// The number of elements.
  public let count: Int
  /// The elements as bf16, two to a Float, where they lie so.
  public let halves: FloatSlice?
  /// Whether a file holds them as int8 codes and scales, of which the same codes are made again.
  public let isInt8: Bool

  public init(_ slice: FloatSlice) { self.init(.stored(slice), count: slice.count) }

  /// The elements of all parts, one part after another.
  public init(joining parts: [FloatSlice]) { self.init(joining: parts.map { TensorParts($0) }) }

  /// The same of parts some of which are made.
  public init(joining parts: [TensorParts]) {
    if parts.count == 1 {
      self = parts[0]
    } else {
      self.init(.joined(parts, Made()), count: parts.reduce(0) { $0 + $1.count })
    }
  }

  /// Elements that `make` makes, each time of the same values.
  ///
  /// - Parameters:
  ///   - count: of the elements.
  ///   - halves: where they lie as bf16.
  ///   - isInt8: whether they are int8 values.
  ///   - release: says that what they are made of will not be read soon.
  ///   - firstNotFinite: nil where they have to be made for it.
  ///   - make: makes all of them.
  public init(
    count: Int, halves: FloatSlice? = nil, isInt8: Bool = false, release: @escaping @Sendable () -> Void,
    firstNotFinite: Finder? = nil, make: @escaping @Sendable () -> FloatSlice
  ) {
    self.init(
      .made(make, release: release, firstNotFinite: firstNotFinite, Made()), count: count, halves: halves,
      isInt8: isInt8)
  }

  private init(_ contents: Contents, count: Int, halves: FloatSlice? = nil, isInt8: Bool = false) {
    (self.contents, self.count, self.halves, self.isInt8) = (contents, count, halves, isInt8)
  }

  /// Whether the elements do not lie in one place as Floats.
  public var isMade: Bool { if case .stored = contents { false } else { true } }

  /// All elements.
  public var slice: FloatSlice {
    switch contents {
    case .stored(let slice): slice
    case .made(let make, _, _, let made): made.slice(make)
    case .joined(let parts, let made): made.slice { Self.join(parts, count: count) }
    }
  }

  private static func join(_ parts: [TensorParts], count: Int) -> FloatSlice {
    let all = MutableFloatSlice(uninitialized: count)
    var start = 0
    for part in parts {
      all[start..<start + part.count].copy(from: part.slice.span)
      part.releasePages()
      start += part.count
    }
    return all.reading
  }

  /// The first element that is NaN or infinite, and its place among all; nil where all are finite. No more than a part is made.
  public var firstNotFinite: (index: Int, value: Float)? {
    if case .made(_, _, let find?, _) = contents { return find() }
    guard case .joined(let parts, _) = contents else {
      let slice = slice
      return slice.span.firstNotFinite.map { ($0, slice[$0]) }
    }
    var start = 0
    for part in parts {
      if let bad = part.firstNotFinite { return (start + bad.index, bad.value) }
      start += part.count
    }
    return nil
  }

  /// Says that the elements will not be read soon: see ``FloatSlice/releasePages()``.
  public func releasePages() {
    switch contents {
    case .stored(let slice): slice.releasePages()
    case .made(_, let release, _, _): release()
    case .joined(let parts, _): for part in parts { part.releasePages() }
    }
  }

  /// Elements that were made, as long as they are held.
  private final class Made: Sendable {
    private struct Held {
      weak var buffer: Buffer?
    }

    private let held = Mutex(Held())

    func slice(_ make: () -> FloatSlice) -> FloatSlice {
      held.withLock { held in
        if let buffer = held.buffer { return FloatSlice(buffer) }
        let new = make()
        precondition(new.offset == 0 && new.count == new.buffer.count, "made in a part of a buffer")
        held.buffer = new.buffer
        return new
      }
    }
  }
}
