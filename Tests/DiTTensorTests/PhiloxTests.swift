import DiTTensor
import Foundation
import TestSupport
import Testing

/// The random numbers: bits as Random123 publishes them, moments, and what a stream and a position mean.
@Suite("The random numbers: Random123's bits, moments, streams and positions") struct PhiloxTests {
  /// Known answers for philox4x32-10 (Random123's kat_vectors): counter, key, block.
  @Test(
    "Philox gives the published blocks of Random123 for philox4x32-10",
    arguments: [
      ([0, 0, 0, 0], [0, 0], [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]),
      (
        [0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF], [0xFFFF_FFFF, 0xFFFF_FFFF],
        [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]
      ),
      (
        [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], [0xA409_3822, 0x299F_31D0],
        [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]
      ),
    ] as [([UInt64], [UInt64], [UInt64])])
  func knownAnswers(_ counter: [UInt64], _ key: [UInt64], _ block: [UInt64]) {
    var random = Philox(
      seed: key[1] << 32 | key[0], stream: counter[3] << 32 | counter[2], position: counter[1] << 32 | counter[0])
    #expect(random.next() == block[0] << 32 | block[1])
    #expect(random.next() == block[2] << 32 | block[3])
    #expect(random.position == (counter[1] << 32 | counter[0]) &+ 1)
  }

  /// Box–Muller of a known block, word by word: (radius cos, radius sin) of words 0 and 1, then of 2 and 3.
  @Test("The normals of a known block are its words through Box-Muller, in order")
  func normalsOfAKnownBlock() {
    func pair(_ a: Double, _ b: Double) -> [Double] {
      let (u, angle) = ((a + 0.5) / 4_294_967_296, 2 * Double.pi * (b + 0.5) / 4_294_967_296)
      return [(-2 * log(u)).squareRoot() * cos(angle), (-2 * log(u)).squareRoot() * sin(angle)]
    }
    let expected = pair(0x6627_E8D5, 0xE169_C58D) + pair(0xBC57_AC4C, 0x9B00_DBD8)
    var random = Philox(seed: 0)
    #expect(mismatch(random.normal(count: 4), expected, within: .roundings(2)) == nil)
  }

  /// Mean 0, variance 1, skewness 0, kurtosis 3, each within 4.5 of its standard deviations √(1, 2, 6, 24 / n); seeds
  /// are fixed, so this passes always or never.
  @Test(
    "Mean, variance, skewness and kurtosis of the normals lie within 4.5 standard deviations",
    arguments: [UInt64(0), 1, 0xDEAD_BEEF])
  func normalMoments(_ seed: UInt64) {
    let n = 200_003
    var random = Philox(seed: seed, stream: 9)
    let x = random.normal(count: n).doubles
    func moment(_ power: Int) -> Double { x.reduce(0) { $0 + pow($1, Double(power)) } / Double(n) }
    let unit = 4.5 / Double(n).squareRoot()
    #expect(abs(moment(1)) < unit)
    #expect(abs(moment(2) - 1) < unit * 2.0.squareRoot())
    #expect(abs(moment(3)) < unit * 15.0.squareRoot())
    #expect(abs(moment(4) - 3) < unit * 96.0.squareRoot())
    #expect(x.allSatisfy { abs($0) < 6.8 })
  }

  @Test("Uniform numbers lie in [0, 1), with the right mean and equally filled buckets")
  func uniformNumbers() {
    let n = 100_000
    var random = Philox(seed: 5)
    let x = (0..<n).map { _ in Double(random.uniform()) }
    #expect(x.allSatisfy { $0 >= 0 && $0 < 1 })
    #expect(abs(x.reduce(0, +) / Double(n) - 0.5) < 4.5 * (1.0 / 12 / Double(n)).squareRoot())
    var buckets = [Int](repeating: 0, count: 16)
    for value in x { buckets[min(15, Int(value * 16))] += 1 }
    let deviation = (Double(n) / 16 * 15 / 16).squareRoot()
    #expect(buckets.allSatisfy { abs(Double($0) - Double(n) / 16) < 4.5 * deviation })
  }

  /// Streams and seeds that are near one another share nothing, and are not correlated.
  @Test("Neighboring seeds, streams and positions give uncorrelated numbers")
  func streamsAreIndependent() {
    let n = 50_000
    let generators = [
      Philox(seed: 3), Philox(seed: 4), Philox(seed: 3, stream: 1), Philox(seed: 3, stream: 1 << 32),
      Philox(seed: 3 + 1 << 32), Philox(seed: 3, position: 1 << 32),
    ]
    let draws = generators.map { generator in
      var generator = generator
      return generator.normal(count: n).doubles
    }
    for i in draws.indices {
      for j in 0..<i {
        #expect(abs(dot(draws[i], draws[j])) < 4.5 * Double(n).squareRoot(), "\(i) and \(j)")
      }
    }
  }

  /// Draws in batches of any multiple of four, and from a stored position, are the same numbers.
  @Test("Draws in batches of multiples of four, and from a stored position, are the same numbers")
  func batchesAndResuming() {
    var whole = Philox(seed: 8, stream: 2)
    let expected = whole.normal(count: 60)
    var parts = Philox(seed: 8, stream: 2)
    let found = [4, 8, 16, 32].flatMap { parts.normal(count: $0) }
    #expect(bitDifference(found, expected) == nil)
    #expect(parts == whole && parts.position == 15)
    var resumed = Philox(seed: 8, stream: 2, position: 5)
    #expect(bitDifference(resumed.normal(count: 40), Array(expected[20...])) == nil)
    // A count that is no multiple of four leaves the rest of its block unused.
    var odd = Philox(seed: 8, stream: 2)
    #expect(bitDifference(odd.normal(count: 3), Array(expected[..<3])) == nil)
    #expect(odd.position == 1)
    #expect(bitDifference(odd.normal(count: 5), Array(expected[4..<9])) == nil)
  }

  @Test("Words drawn from a stored position continue the sequence")
  func wordsResume() {
    var random = Philox(seed: 6)
    let words = (0..<10).map { _ in random.next() }
    var resumed = Philox(seed: 6, position: 3)
    #expect((6..<10).map { _ in resumed.next() } == Array(words[6...]))
    #expect(Set(words).count == 10)
  }
}
