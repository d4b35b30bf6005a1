/// bfloat16 as its definition reads: the oracle for every conversion.
public enum BF16 {
  /// The upper half of `x`, rounded to nearest, ties to even; a NaN keeps its upper half and is made quiet.
  public static func rounded(_ x: Float) -> UInt16 {
    let (upper, lower) = (UInt16(x.bitPattern >> 16), x.bitPattern & 0xFFFF)
    if x.isNaN { return upper | 0x40 }
    return lower > 0x8000 || (lower == 0x8000 && upper % 2 == 1) ? upper + 1 : upper
  }

  /// The same number as a Float.
  public static func widened(_ half: UInt16) -> Float { Float(bitPattern: UInt32(half) << 16) }
}

extension [Float] {
  /// Each rounded to bf16, as the Float it then is.
  public var roundedToBF16: [Float] { map { BF16.widened(BF16.rounded($0)) } }

  /// Rounded to bf16, two to a Float, as the engine's memory holds them. The free half of a last one is NaN.
  public var asHalves: [Float] {
    stride(from: 0, to: count, by: 2).map { i in
      let high = i + 1 < count ? BF16.rounded(self[i + 1]) : 0x7FC0
      return Float(bitPattern: UInt32(BF16.rounded(self[i])) | UInt32(high) << 16)
    }
  }

  /// The first `count` of elements that ``asHalves`` laid out, widened.
  public func halves(_ count: Int) -> [Float] {
    (0..<count).map { i in
      let pair = self[i / 2].bitPattern
      return Float(bitPattern: i % 2 == 0 ? pair << 16 : pair & 0xFFFF_0000)
    }
  }
}

/// nil when every element is what a number within `tolerance` of the expected one rounds to in bf16, so that rounding any
/// other way than to nearest shows.
public func mismatch(
  bf16 found: [Float], _ expected: [Double], within tolerance: Tolerance, scales: [Double]? = nil
) -> String? {
  guard found.count == expected.count else { return "expected \(expected.count) elements, found \(found.count)" }
  let largest = expected.reduce(0) { max($0, abs($1)) }
  for i in found.indices {
    let limit = (scales?[i] ?? largest) * tolerance.relative
    let bounds = [Float(expected[i] - limit), Float(expected[i] + limit)].roundedToBF16
    // Written so that a NaN, found or expected, is bad.
    if bounds[0] <= found[i], found[i] <= bounds[1] { continue }
    let worst = zip(found, expected).reduce(0) { max($0, abs(Double($1.0) - $1.1)) }
    return "at \(i) of \(found.count): expected \(expected[i]) rounded to bf16, found \(found[i]); max error \(worst), "
      + "relative \(worst / largest); allowed before rounding: \(tolerance)"
  }
  return nil
}
