#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Counter-based random numbers: Philox 4×32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
///
/// The number at position `i` of stream `s` under seed `k` depends on (k, s, i) alone, so streams can be drawn in any
/// order, in batches of any size, and a run is resumed from three integers.
public struct Philox: Equatable, Sendable, RandomNumberGenerator {
  /// The key.
  public let seed: UInt64
  /// Which of 2⁶⁴ independent sequences.
  public let stream: UInt64
  /// The next block of four 32-bit words. A generator made at this position goes on where this one stands when whole
  /// blocks were used: after `fillNormal`, or an even number of `next()` and `uniform()`.
  public private(set) var position: UInt64
  private var pending: UInt64?

  /// A generator at block `position` of `stream` under `seed`.
  public init(seed: UInt64, stream: UInt64 = 0, position: UInt64 = 0) {
    self.seed = seed
    self.stream = stream
    self.position = position
  }

  /// Ten rounds over the counter (position, stream) with the key `seed`.
  static func block(seed: UInt64, stream: UInt64, position: UInt64) -> (UInt32, UInt32, UInt32, UInt32) {
    var c = (
      UInt32(truncatingIfNeeded: position), UInt32(truncatingIfNeeded: position >> 32),
      UInt32(truncatingIfNeeded: stream), UInt32(truncatingIfNeeded: stream >> 32)
    )
    var k = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    for _ in 0..<10 {
      let p0 = UInt64(0xD251_1F53) &* UInt64(c.0)
      let p1 = UInt64(0xCD9E_8D57) &* UInt64(c.2)
      c = (
        UInt32(truncatingIfNeeded: p1 >> 32) ^ c.1 ^ k.0, UInt32(truncatingIfNeeded: p1),
        UInt32(truncatingIfNeeded: p0 >> 32) ^ c.3 ^ k.1, UInt32(truncatingIfNeeded: p0)
      )
      k = (k.0 &+ 0x9E37_79B9, k.1 &+ 0xBB67_AE85)
    }
    return c
  }

  private mutating func nextBlock() -> (UInt32, UInt32, UInt32, UInt32) {
    defer { position &+= 1 }
    return Self.block(seed: seed, stream: stream, position: position)
  }

  /// 64 random bits; every second call takes a new block.
  public mutating func next() -> UInt64 {
    if let word = pending {
      pending = nil
      return word
    }
    let block = nextBlock()
    pending = UInt64(block.2) << 32 | UInt64(block.3)
    return UInt64(block.0) << 32 | UInt64(block.1)
  }

  /// Fills `output` with draws from N(0, 1): Box–Muller in Double on two pairs of 32-bit uniforms a block. Begins a new
  /// block, also when half of the last one is left.
  public mutating func fillNormal(_ output: inout MutableSpan<Float>) {
    var index = 0
    while index < output.count {
      let b = nextBlock()
      let first = Self.boxMuller(b.0, b.1)
      let second = Self.boxMuller(b.2, b.3)
      output[index] = Float(first.0)
      if index + 1 < output.count { output[index + 1] = Float(first.1) }
      if index + 2 < output.count { output[index + 2] = Float(second.0) }
      if index + 3 < output.count { output[index + 3] = Float(second.1) }
      index += 4
    }
  }

  /// `count` draws from N(0, 1).
  public mutating func normal(count: Int) -> [Float] {
    var values = [Float](repeating: 0, count: count)
    var span = values.mutableSpan
    fillNormal(&span)
    return values
  }

  private static func boxMuller(_ a: UInt32, _ b: UInt32) -> (Double, Double) {
    let u = (Double(a) + 0.5) * 0x1p-32
    let radius = (-2 * log(u)).squareRoot()
    let angle = 2 * Double.pi * (Double(b) + 0.5) * 0x1p-32
    return (radius * cos(angle), radius * sin(angle))
  }

  /// A uniform draw from [0, 1) with 24 bits.
  public mutating func uniform() -> Float {
    Float(next() >> 40) * 0x1p-24
  }
}
