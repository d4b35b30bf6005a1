// The memory and the contexts of a kernel test.

import DiTKernels
import DiTTensor
import TestSupport

/// The operands of one kernel call. Each lies between guards, at an address that is no multiple of a vector, so that
/// ``damage`` finds what was written where it must not be; guards are NaN, so that what was read there shows as well.
final class Operands {
  private struct Operand {
    let name: String
    let all: Slice
    let inner: Slice
    /// The values of an operand that is only read.
    let fixed: [Float]?
  }

  private static let guardCount = 17
  private static let mark = Float(bitPattern: 0x7FC0_DEAD)
  private var operands: [Operand] = []

  private func add(_ name: String, _ values: [Float], fixed: Bool) -> Slice {
    let padding = [Float](repeating: Self.mark, count: Self.guardCount)
    let all = Slice(padding + values + padding)
    let inner = all[Self.guardCount..<Self.guardCount + values.count]
    operands.append(Operand(name: name, all: all, inner: inner, fixed: fixed ? values : nil))
    return inner
  }

  /// An operand that the kernel only reads.
  func input(_ name: String, _ values: [Float]) -> Slice { add(name, values, fixed: true) }

  /// An operand that the kernel adds to or changes.
  func state(_ name: String, _ values: [Float]) -> Slice { add(name, values, fixed: false) }

  /// An operand that the kernel overwrites; it begins as NaN.
  func output(_ name: String, _ count: Int) -> Slice {
    add(name, [Float](repeating: .nan, count: count), fixed: false)
  }

  /// The first operand that has writing outside it, or that was written although it is an input.
  var damage: String? {
    for operand in operands {
      let array = operand.all.array
      let guards = Array(array.prefix(Self.guardCount) + array.suffix(Self.guardCount))
      if let i = guards.firstIndex(where: { $0.bitPattern != Self.mark.bitPattern }) {
        let side = i < Self.guardCount ? "before" : "after"
        return "\(operand.name) was written \(side) its \(operand.inner.count) elements"
      }
      if let fixed = operand.fixed, let difference = bitDifference(operand.inner.array, fixed) {
        return "\(operand.name), an input, was changed \(difference)"
      }
    }
    return nil
  }
}

extension Slice {
  /// The elements, widened.
  var doubles: [Double] { array.doubles }
}

/// Rows of `width` spread `stride` apart, what lies between them NaN: a chunk of a wider modulation matrix.
func spread(_ rows: [Float], width: Int, stride: Int) -> [Float] {
  let count = rows.count / width
  var spread = [Float](repeating: .nan, count: (count - 1) * stride + width)
  for row in 0..<count {
    for i in 0..<width { spread[row * stride + i] = rows[row * width + i] }
  }
  return spread
}

/// The rows that ``spread(_:width:stride:)`` spread, and whether what lies between them is still NaN.
func gather(_ spread: [Float], width: Int, stride: Int) -> (rows: [Float], clean: Bool) {
  var (rows, clean): ([Float], Bool) = ([], true)
  for i in spread.indices {
    if i % stride < width { rows.append(spread[i]) } else { clean = clean && spread[i].isNaN }
  }
  return (rows, clean)
}
