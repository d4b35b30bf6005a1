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
    /// Whether the last element holds a single bf16, beside which nothing may be written.
    let hasFreeHalf: Bool
  }

  private static let guardCount = 17
  private static let mark = Float(bitPattern: 0x7FC0_DEAD)
  private var operands: [Operand] = []

  private func add(_ name: String, _ values: [Float], fixed: Bool, hasFreeHalf: Bool = false) -> Slice {
    let padding = [Float](repeating: Self.mark, count: Self.guardCount)
    let all = Slice(padding + values + padding)
    let inner = all[Self.guardCount..<Self.guardCount + values.count]
    operands.append(
      Operand(name: name, all: all, inner: inner, fixed: fixed ? values : nil, hasFreeHalf: hasFreeHalf))
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

  /// The same in a format: values are rounded to it, and bf16 lie two to an element.
  func input(_ name: String, _ values: [Float], _ precision: Precision) -> Slice {
    input(name, values.stored(precision))
  }

  func state(_ name: String, _ values: [Float], _ precision: Precision) -> Slice {
    guard precision == .bf16 else { return state(name, values) }
    return add(name, values.asHalves, fixed: false, hasFreeHalf: values.count % 2 == 1)
  }

  func output(_ name: String, _ count: Int, _ precision: Precision) -> Slice {
    state(name, [Float](repeating: .nan, count: count), precision)
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
      if operand.hasFreeHalf, operand.inner[operand.inner.count - 1].bitPattern >> 16 != 0x7FC0 {
        return "\(operand.name) was written behind its last bf16"
      }
      if let fixed = operand.fixed, let difference = bitDifference(operand.inner.array, fixed) {
        return "\(operand.name), an input, was changed \(difference)"
      }
    }
    return nil
  }
}

/// A table of kernels: an instruction set, AVX-512 with and without products of bf16 of its own.
struct Level: CustomStringConvertible, Sendable {
  let instructionSet: InstructionSet
  let nativeBF16: Bool

  static let all: [Level] = {
    let widest = InstructionSet.supported
    let native = (try? ComputeContext(threads: 1, instructionSet: widest, nativeBF16: true))?.hasNativeBF16 == true
    return InstructionSet.runnable.map { Level(instructionSet: $0, nativeBF16: false) }
      + (native ? [Level(instructionSet: widest, nativeBF16: true)] : [])
  }()

  func context(threads: Int = 2) throws -> ComputeContext {
    try ComputeContext(
      threads: threads, workers: threads, instructionSet: instructionSet, nativeBF16: nativeBF16)
  }

  var description: String { instructionSet.rawValue + (nativeBF16 ? " with its own bf16" : "") }
}

extension Slice {
  /// The elements, widened.
  var doubles: [Double] { array.doubles }

  /// `count` elements of a format.
  func values(_ count: Int, _ precision: Precision) -> [Float] {
    precision == .bf16 ? array.halves(count) : array
  }
}

extension [Float] {
  /// As an operand of a format holds them.
  func rounded(to precision: Precision) -> [Float] { precision == .bf16 ? roundedToBF16 : self }

  /// As the memory of an operand of a format.
  func stored(_ precision: Precision) -> [Float] { precision == .bf16 ? asHalves : self }
}

/// nil when a result in a format is within `tolerance` of the expected one before it is rounded to that format.
func mismatch(
  _ found: Slice, _ precision: Precision, _ expected: [Double], within tolerance: Tolerance, scales: [Double]? = nil
) -> String? {
  let values = found.values(expected.count, precision)
  return precision == .bf16
    ? mismatch(bf16: values, expected, within: tolerance, scales: scales)
    : mismatch(values, expected, within: tolerance, scales: scales)
}

/// Rows of `width`, scattered `stride` apart, with NaN between them: a chunk of a wider modulation matrix.
func scatter(_ rows: [Float], width: Int, stride: Int) -> [Float] {
  let count = rows.count / width
  var scattered = [Float](repeating: .nan, count: (count - 1) * stride + width)
  for row in 0..<count {
    for i in 0..<width { scattered[row * stride + i] = rows[row * width + i] }
  }
  return scattered
}

/// The rows that ``scatter(_:width:stride:)`` scattered, and whether what lies between them is still NaN.
func gather(_ scattered: [Float], width: Int, stride: Int) -> (rows: [Float], clean: Bool) {
  var (rows, clean): ([Float], Bool) = ([], true)
  for i in scattered.indices {
    if i % stride < width { rows.append(scattered[i]) } else { clean = clean && scattered[i].isNaN }
  }
  return (rows, clean)
}

extension Reference.Heads {
  /// As the kernels take them.
  var extents: AttentionExtents { AttentionExtents(samples: samples, tokens: tokens, heads: heads, headSize: size) }
}
