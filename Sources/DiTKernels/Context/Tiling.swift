/// A matrix cut into tiles: which part of it a task computes. Cut by shape alone, so that results do not depend on the
/// number of threads.
package struct Tiling {
  package let rows: Int
  package let columns: Int
  let tileRows: Int
  let tileColumns: Int

  /// Tiles of at most `tileRows` × `tileColumns`, of nearly equal size.
  package init(rows: Int, columns: Int, tileRows: Int, tileColumns: Int) {
    self.rows = rows
    self.columns = columns
    self.tileRows = Self.even(rows, atMost: tileRows, multiple: 8)
    self.tileColumns = Self.even(columns, atMost: tileColumns, multiple: 16)
  }

  package var count: Int { ceilDivide(rows, tileRows) * ceilDivide(columns, tileColumns) }

  @inline(__always) package func rowRange(_ index: Int) -> Range<Int> {
    let start = index / ceilDivide(columns, tileColumns) * tileRows
    return start..<min(start + tileRows, rows)
  }

  @inline(__always) package func columnRange(_ index: Int) -> Range<Int> {
    let start = index % ceilDivide(columns, tileColumns) * tileColumns
    return start..<min(start + tileColumns, columns)
  }

  private static func even(_ extent: Int, atMost limit: Int, multiple: Int) -> Int {
    guard extent > limit else { return max(extent, 1) }
    let each = ceilDivide(extent, ceilDivide(extent, limit))
    return ceilDivide(each, multiple) * multiple
  }
}

/// ⌈a / b⌉ for positive b.
@inline(__always) package func ceilDivide(_ a: Int, _ b: Int) -> Int { (a + b - 1) / b }

/// A run of elements that a flat loop is cut into.
let flatChunk = 1 << 16

/// The elements of chunk `index` of `count` elements.
@inline(__always) func flatRange(_ index: Int, of count: Int) -> Range<Int> {
  index * flatChunk..<min(count, (index + 1) * flatChunk)
}

/// Traps unless `count` elements are there.
@inline(__always) package func check(_ count: Int, atLeast needed: Int, _ name: StaticString) {
  precondition(count >= needed, "\(name): \(needed) elements expected, \(count) found")
}
