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

/// Cuts one buffer into parts, one line per part. A plan is the same lines over no memory: it says how much they take.
package struct Arena {
  private var layout = ArenaLayout()
  /// Nil in a plan, whose parts are empty.
  private let memory: MutableFloatSlice?

  /// Elements handed out so far, padding included.
  package var count: Int { layout.count }

  /// A plan.
  package init() { memory = nil }

  /// A buffer of `count` zeros, as a plan asks for.
  package init(count: Int) { memory = MutableFloatSlice(zeros: count) }

  /// The next `elements`, aligned to a cache line.
  package mutating func reserve(_ elements: Int) -> MutableFloatSlice {
    let range = layout.reserve(elements)
    return memory?[range] ?? .empty
  }

  /// The next (rows, columns) of a format. In a plan the matrix has no rows.
  package mutating func reserve(rows: Int, columns: Int, _ format: Format = .fp32) -> MutableMatrix {
    let part = reserve(format.floats(rows: rows, columns: columns))
    return matrix(in: part, rows: rows, columns: columns, format)
  }

  /// A (rows, columns) of a format in memory that was reserved before. In a plan the matrix has no rows.
  package func matrix(in part: MutableFloatSlice, rows: Int, columns: Int, _ format: Format = .fp32) -> MutableMatrix {
    MutableMatrix(part, rows: memory == nil ? 0 : rows, columns: columns, format: format)
  }

  /// Goes on after all that `other`, a copy of this arena, has handed out: parts of both then share memory.
  package mutating func skip(past other: Arena) {
    if other.count > count { _ = layout.reserve(other.count - count) }
  }

  /// What `parts` takes of a buffer of its own.
  package static func filled<Parts>(_ parts: (inout Arena) -> Parts) -> Parts {
    var plan = Arena()
    _ = parts(&plan)
    var arena = Arena(count: plan.count)
    return parts(&arena)
  }
}
