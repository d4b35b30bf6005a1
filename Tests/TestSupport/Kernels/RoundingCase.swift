import DiTKernels
import DiTTensor

/// Gradients as they go from process to process: rounded to bf16, added with each sum rounded, and packed. Among them are numbers
/// between two of bf16, denormals, infinities, NaN and sums that overflow.
public struct RoundingCase: KernelCase {
  let count: Int
  var loop = FlatLoop.caller

  public var description: String { "\(count) by \(loop)" }
  public var kernels: Set<String> {
    count > 0 ? ["round_to_bf16", "add_rounded", "pack_bf16", "unpack_bf16"] : []
  }

  /// Two bf16 and what lies halfway between them, above and below; a denormal of each format; the ends.
  private static let special: [UInt32] = [
    0x3F80_8000, 0x3F81_8000, 0x3F80_7FFF, 0x3F80_8001, 0x0001_8000, 0x0000_0001, 0x8000_0000, 0x7F7F_FFFF, 0xFF7F_8000,
    0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0x7F80_0001, 0x0080_0000,
  ]

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    var x = draw.normal(count)
    for (place, bits) in Self.special.enumerated() where 3 * place < count { x[3 * place] = Float(bitPattern: bits) }
    return ["x": x, "y": draw.normal(count)]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (x, y, rounded) = (o.vector("x"), o.state("y"), o.output("rounded", count))
    let packed = o.output("packed", ComputeContext.packedBFloat16(count))
    let unpacked = o.output("unpacked", count)
    return {
      rounded.copy(from: x)
      context.roundToBFloat16(rounded, by: loop)
      context.add(rounded.reading, to: y, rounded: true, by: loop)
      packed.fill(0)
      context.packBFloat16(y.reading, into: packed)
      context.unpackBFloat16(packed.reading, into: unpacked)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let rounded = x.floats("x").map(Self.rounded)
    let sums = zip(x.floats("y"), rounded).map { Self.rounded($0 + $1) }
    let packed = stride(from: 0, to: count, by: 2).map { place in
      let upper = place + 1 < count ? sums[place + 1].bitPattern & 0xFFFF_0000 : 0
      return Float(bitPattern: upper | sums[place].bitPattern >> 16)
    }
    return [.bits("rounded", rounded), .bits("y", sums), .bits("packed", packed), .bits("unpacked", sums)]
  }

  /// The nearer of the two bf16 around a number, the even one of two that are equally near; a NaN keeps its sign and is quiet.
  private static func rounded(_ x: Float) -> Float {
    let below = Float(bitPattern: x.bitPattern & 0xFFFF_0000)
    guard !x.isNaN else { return Float(bitPattern: below.bitPattern | 0x0040_0000) }
    guard x.isFinite, x != below else { return x }
    let above = Float(bitPattern: below.bitPattern + 0x1_0000)
    // Halfway to what would follow the largest number an infinity begins.
    let middle = Float(bitPattern: below.bitPattern + 0x8000)
    let (distance, half) = (x.magnitude, middle.magnitude)
    if distance == half { return below.bitPattern & 0x1_0000 == 0 ? below : above }
    return distance < half ? below : above
  }

  public static let all =
    [0, 1, 3, 15, 16, 17, 31, 385, 131_077].map { RoundingCase(count: $0) }
    + [65_536, 131_077].map { RoundingCase(count: $0, loop: .threads) }
}
