// torch's CPU generator, so that a seed means here what it means there.
//
// - MT19937 (Matsumoto & Nishimura 1998), seeded by Knuth's recurrence from the low 32 bits of the seed: torch keeps 64 but
//   reads 32
// - `rand` float32: the low 24 bits of a word · 2⁻²⁴, bit for bit
// - `randn` float32 of 16 values or more: all uniforms first, a word each; then Box–Muller in blocks of 16 whose first
//   half holds radius·cos and whose second half radius·sin; where the count is no multiple of 16, the last 16 values are
//   drawn anew from 16 more words. Float arithmetic in torch's order; its vectorized log, cos and sin differ from the
//   system's in the last place, so that values agree to about 2.5e-7
// - `randn` of fewer: a value after the other by Box–Muller in Double on 53-bit uniforms of two words; the second value of
//   a pair is kept for the next scalar draw, over any draws between
// - checked against torch 2.13; the same since 1.x

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The stream of `torch.Generator("cpu").manual_seed(seed)`.
public struct TorchGenerator: Equatable, Sendable {
  /// As given; only its low 32 bits matter.
  public let seed: UInt64
  /// The last 624 words, not yet tempered.
  private var words: [UInt32]
  /// Which of them comes next; 624 before the first.
  private var next = Self.size
  /// The second value of a scalar pair.
  private var pending: Double?

  private static let size = 624
  private static let middle = 397
  /// Values in a block of the long path, and the count from which it is taken.
  private static let block = 16

  public init(seed: UInt64) {
    self.seed = seed
    words = [UInt32](repeating: 0, count: Self.size)
    words[0] = UInt32(truncatingIfNeeded: seed)
    for i in 1..<Self.size {
      words[i] = 1_812_433_253 &* (words[i - 1] ^ words[i - 1] >> 30) &+ UInt32(i)
    }
  }

  // MARK: Words

  private mutating func refill() {
    for i in 0..<Self.size {
      let after = i + 1 == Self.size ? 0 : i + 1
      let joined = words[i] & 0x8000_0000 | words[after] & 0x7FFF_FFFF
      let far = i + Self.middle < Self.size ? i + Self.middle : i + Self.middle - Self.size
      words[i] = words[far] ^ joined >> 1 ^ (words[after] & 1 == 0 ? 0 : 0x9908_B0DF)
    }
    next = 0
  }

  private mutating func word() -> UInt32 {
    if next == Self.size { refill() }
    var y = words[next]
    next += 1
    y ^= y >> 11
    y ^= y << 7 & 0x9D2C_5680
    y ^= y << 15 & 0xEFC6_0000
    return y ^ y >> 18
  }

  /// Leaves out words.
  private mutating func skip(_ count: Int) {
    var left = count
    while left > 0 {
      if next == Self.size { refill() }
      let step = min(left, Self.size - next)
      next += step
      left -= step
    }
  }

  // MARK: Uniforms

  /// `torch.rand(())`: a draw from [0, 1) with 24 bits.
  public mutating func uniform() -> Float { Float(word() & 0xFF_FFFF) * 0x1p-24 }

  /// `torch.rand(output.count)`.
  public mutating func fillUniform(_ output: inout MutableSpan<Float>) {
    for i in output.indices { output[i] = uniform() }
  }

  /// `torch.rand(count)`.
  public mutating func uniform(count: Int) -> [Float] {
    var values = [Float](repeating: 0, count: count)
    var span = values.mutableSpan
    fillUniform(&span)
    return values
  }

  /// A draw from [0, 1) with 53 bits: two words, the high half first.
  private mutating func uniformDouble() -> Double {
    let high = UInt64(word())
    let bits = high << 32 | UInt64(word())
    return Double(bits & (1 << 53 - 1)) * 0x1p-53
  }

  // MARK: Normals

  /// `torch.randn(output.count)`.
  public mutating func fillNormal(_ output: inout MutableSpan<Float>) {
    fillNormal(&output, elements: 0..<output.count, of: output.count)
  }

  /// `torch.randn(count)`.
  public mutating func normal(count: Int) -> [Float] {
    var values = [Float](repeating: 0, count: count)
    var span = values.mutableSpan
    fillNormal(&span)
    return values
  }

  /// The elements `range` of `torch.randn(count)`: the generator goes on as after all of them, and the others cost
  /// next to nothing.
  ///
  /// - Parameters:
  ///   - output: `range.count` values.
  ///   - range: which of them are wanted.
  ///   - count: how many are drawn.
  /// - Precondition: `range` lies in 0…count.
  public mutating func fillNormal(_ output: inout MutableSpan<Float>, elements range: Range<Int>, of count: Int) {
    precondition(
      0 <= range.lowerBound && range.upperBound <= count && output.count == range.count,
      "\(output.count) values for the elements \(range) of \(count)")
    guard count >= Self.block else {
      for index in 0..<count {
        let value = Float(scalarNormal())
        if range.contains(index) { output[index - range.lowerBound] = value }
      }
      return
    }
    // Whole blocks before the range, those that meet it, those after it.
    let blocks = count / Self.block
    let first = min(range.lowerBound / Self.block, blocks)
    let last = max(first, min(blocks, (range.upperBound + Self.block - 1) / Self.block))
    skip(first * Self.block)
    for index in first..<last { fillBlock(&output, at: index * Self.block, range) }
    skip(count - last * Self.block)
    if count % Self.block != 0 { fillBlock(&output, at: count - Self.block, range) }
  }

  /// Draws the 16 values from `start` on, and keeps those of `range`.
  private mutating func fillBlock(_ output: inout MutableSpan<Float>, at start: Int, _ range: Range<Int>) {
    let half = Self.block / 2
    var uniforms = InlineArray<16, Float>(repeating: 0)
    for i in 0..<Self.block { uniforms[i] = uniform() }
    for i in 0..<half {
      let radius = (-2 * Float(log(Double(1 - uniforms[i])))).squareRoot()
      let angle = Double(2 * Float.piAsTorch * uniforms[i + half])
      let (near, far) = (start + i, start + i + half)
      if range.contains(near) { output[near - range.lowerBound] = radius * Float(cos(angle)) }
      if range.contains(far) { output[far - range.lowerBound] = radius * Float(sin(angle)) }
    }
  }

  private mutating func scalarNormal() -> Double {
    if let value = pending {
      pending = nil
      return value
    }
    let angle = 2 * Double.pi * uniformDouble()
    let radius = (-2 * log1p(-uniformDouble())).squareRoot()
    pending = radius * sin(angle)
    return radius * cos(angle)
  }
}

extension Float {
  /// π to the nearest Float; Swift's own is rounded towards zero.
  fileprivate static let piAsTorch: Float = 0x1.921fb6p1
}
