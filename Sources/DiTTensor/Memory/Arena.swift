/// Lays ranges out one after another: a memory plan is made once, from the configuration, and its total becomes one
/// buffer, so that a step allocates nothing.
public struct ArenaLayout {
  /// The elements handed out so far, padding included.
  public private(set) var count = 0

  /// Starts at the buffer's beginning.
  public init() {}

  /// Reserves `elements`, aligned to a cache line, and returns where they lie.
  public mutating func reserve(_ elements: Int) -> Range<Int> {
    precondition(elements >= 0, "cannot reserve \(elements) elements")
    let start = count
    count += (elements + 15) & ~15
    return start..<start + elements
  }
}
