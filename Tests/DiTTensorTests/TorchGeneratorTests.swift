import DiTTensor
import TestSupport
import Testing

/// torch's CPU generator against what torch drew: Tests/Fixtures/random/torch.safetensors.
@Suite("PyTorch's CPU generator against what torch drew") struct TorchGeneratorTests {
  /// How far normals may be from torch's: its vectorized log, cos and sin differ in the last place of a Float.
  private static let tolerance: Float = 2.5e-7

  private func parts(_ name: String) throws -> (kind: String, seed: UInt64, rest: String) {
    let words = name.split(separator: ":").map(String.init)
    return (words[0], try #require(UInt64(words[1])), words[2])
  }

  private func largestError(_ found: [Float], _ expected: [Float]) -> Float {
    guard found.count == expected.count else { return .infinity }
    return zip(found, expected).map { abs($0 - $1) }.reduce(0) { $1 <= $0 ? $0 : $1.isNaN ? .infinity : $1 }
  }

  @Test("Uniform numbers are torch.rand's, bit for bit")
  func uniformsAreTorchsBitForBit() throws {
    let fixture = try Fixture("torch", folder: "random")
    let names = fixture.names.filter { $0.hasPrefix("rand:") }
    #expect(names.count >= 30)
    for name in names {
      let (_, seed, count) = try parts(name)
      var random = TorchGenerator(seed: seed)
      let found = random.uniform(count: try #require(Int(count)))
      #expect(bitDifference(found, try fixture.floats(name)) == nil, "\(name)")
    }
  }

  @Test("Normals are torch.randn's to 2.5e-7, for every stored seed and count")
  func normalsAreTorchs() throws {
    let fixture = try Fixture("torch", folder: "random")
    let names = fixture.names.filter { $0.hasPrefix("randn:") }
    #expect(names.count >= 36)
    for name in names {
      let (_, seed, count) = try parts(name)
      var random = TorchGenerator(seed: seed)
      let error = largestError(random.normal(count: try #require(Int(count))), try fixture.floats(name))
      #expect(error <= Self.tolerance, "\(name): \(error)")
    }
  }

  /// The state after a draw: words used, and the second value of a scalar pair, which waits over other draws.
  @Test("Mixed sequences of draws continue as torch's do, the kept second normal included")
  func sequencesOfDrawsAreTorchs() throws {
    let fixture = try Fixture("torch", folder: "random")
    let names = fixture.names.filter { $0.hasPrefix("sequence:") }
    #expect(names.count >= 14)
    for name in names {
      let (_, seed, draws) = try parts(name)
      var random = TorchGenerator(seed: seed)
      var found: [Float] = []
      for draw in draws.split(separator: "-") {
        let count = try #require(Int(draw.dropFirst()))
        found += draw.hasPrefix("u") ? random.uniform(count: count) : random.normal(count: count)
      }
      let error = largestError(found, try fixture.floats(name))
      #expect(error <= Self.tolerance, "\(name): \(error)")
    }
  }

  /// Far into the stream, and with the special last block.
  @Test("The end of a draw of 20,000 is torch's, also when the last block of 16 is drawn again")
  func theEndOfALongDrawIsTorchs() throws {
    let fixture = try Fixture("torch", folder: "random")
    for count in [20000, 20011] {
      let expected = try fixture.floats("tail:1:\(count)")
      var random = TorchGenerator(seed: 1)
      var found = [Float](repeating: 0, count: expected.count)
      var span = found.mutableSpan
      random.fillNormal(&span, elements: count - expected.count..<count, of: count)
      let error = largestError(found, expected)
      #expect(error <= Self.tolerance, "\(count): \(error)")
    }
  }

  /// Some elements of a draw are those elements, and leave the generator where all of them do.
  @Test(
    "Part of a draw has the elements of the whole draw and leaves the same state",
    arguments: [1, 2, 7, 15, 16, 17, 40, 48, 651])
  func partsOfADrawAreItsElements(_ count: Int) {
    var whole = TorchGenerator(seed: 5)
    _ = whole.normal(count: 3)  // leaves a second value
    let before = whole
    let all = whole.normal(count: count)
    for lower in Set([0, 1, count / 3, count - 1, count]).sorted() where lower <= count {
      for upper in Set([lower, (lower + count) / 2, count]).sorted() where upper >= lower {
        var random = before
        var found = [Float](repeating: .nan, count: upper - lower)
        var span = found.mutableSpan
        random.fillNormal(&span, elements: lower..<upper, of: count)
        #expect(bitDifference(found, Array(all[lower..<upper])) == nil, "\(lower)..<\(upper) of \(count)")
        #expect(random == whole, "\(lower)..<\(upper) of \(count) leaves another state")
      }
    }
  }

  /// torch keeps 64 bits of a seed and reads 32.
  @Test("Only the lower 32 bits of a seed matter, as in torch")
  func theUpperHalfOfASeedDoesNothing() {
    var (a, b, c) = (TorchGenerator(seed: 7), TorchGenerator(seed: 1 << 40 + 7), TorchGenerator(seed: 8))
    let first = a.normal(count: 33)
    #expect(first == b.normal(count: 33))
    #expect(first != c.normal(count: 33))
  }
}
