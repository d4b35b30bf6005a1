import DiTTensor

/// An image inside a pass: (height, width, channels).
struct FeatureMap {
  let memory: Range<Int>
  let height, width, channels: Int

  var pixels: Int { height * width }
}

/// The memory of a pass: ranges of one buffer, handed out and taken back. A pass runs once without a buffer, to learn how
/// large it must be, and then with one; both allocate and free the same ranges in the same order.
struct PassMemory {
  private let buffer: MutableFloatSlice?
  /// In ascending order.
  private var live: [Range<Int>] = []
  /// The most elements that were in use at once, gaps counted.
  private(set) var peak = 0

  /// nil: to learn the size.
  init(_ buffer: MutableFloatSlice?) { self.buffer = buffer }

  var isPlan: Bool { buffer == nil }

  /// The first gap that is large enough.
  mutating func allocate(_ count: Int) -> Range<Int> {
    let size = (count + 15) & ~15
    var start = 0
    var index = 0
    while index < live.count, live[index].lowerBound - start < size {
      start = live[index].upperBound
      index += 1
    }
    let range = start..<start + size
    live.insert(range, at: index)
    peak = max(peak, range.upperBound)
    return start..<start + count
  }

  mutating func free(_ range: Range<Int>) {
    let index = live.firstIndex { $0.lowerBound == range.lowerBound && !range.isEmpty }
    if let index { live.remove(at: index) }
  }

  func slice(_ range: Range<Int>) -> MutableFloatSlice {
    guard let buffer else { preconditionFailure("a plan has no memory") }
    return buffer[range]
  }
}
