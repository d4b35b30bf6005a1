import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// Attention over packed blocks of 512 keys with a running maximum, and its gradient: in both formats, at every level.
@Suite("Attention over packed blocks of keys, and its gradient") struct PackedAttentionTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let heads: Reference.Heads

    init(_ samples: Int, _ tokens: Int, _ heads: Int, _ size: Int) {
      self.heads = Reference.Heads(samples: samples, tokens: tokens, heads: heads, size: size)
    }

    var testDescription: String { "\(heads.samples)×\(heads.tokens), \(heads.heads) heads of \(heads.size)" }
  }

  /// Samples, tokens, heads, head size. 513 tokens are one more than a block of keys, 1100 three; 130 and 77 end inside a
  /// block of 128 queries, 256 at its end.
  static let cases = [
    Case(1, 1, 1, 1), Case(2, 5, 3, 9), Case(1, 5, 1, 72), Case(2, 77, 2, 64), Case(1, 130, 3, 9), Case(1, 256, 1, 64),
    Case(2, 256, 1, 9), Case(1, 513, 1, 72), Case(1, 513, 2, 9), Case(1, 1100, 1, 9),
  ]

  @Test(
    "Packed attention and its gradient agree with the Double reference in both precisions",
    arguments: cases, Precision.allCases)
  func reference(_ c: Case, _ precision: Precision) throws {
    let expected = ExpectedAttention(c.heads, precision)
    for level in Level.all {
      let problems = expected.problems(PackedAttentionRun(try level.context(), expected))
      #expect(problems.isEmpty, "\(level): \(problems)")
    }
  }

  /// How the logits of a hard case lie.
  enum Logits: CaseIterable {
    /// ±80 and more: some weights are 1, some below Float's smallest.
    case wide
    /// All near −400 or near +400: without the row's maximum taken off, every exponential under- or overflows.
    case low, high
    /// One key has all the weight: the first, or the last, which lies in another block of keys than most.
    case first, last
  }

  @Test(
    "Large, shifted and one-sided logits neither overflow nor lose precision",
    arguments: Logits.allCases, Precision.allCases)
  func largeLogits(_ logits: Logits, _ precision: Precision) throws {
    for c in [Case(1, 17, 2, 16), Case(1, 515, 1, 16)] {
      let h = c.heads
      var draw = Draw(seed: 122)
      var qkv = draw.normal(3 * h.samples * h.tokens * h.width, deviation: logits == .wide ? 5.5 : 0.05)
      for i in qkv.indices where logits != .wide {
        let (part, token) = (i / h.width % 3, i / h.width / 3)
        if part == 0 { qkv[i] += 10 }
        if part == 1, logits == .low || logits == .high { qkv[i] += logits == .low ? -10 : 10 }
        if part == 1, token == (logits == .first ? 0 : h.tokens - 1), logits == .first || logits == .last {
          qkv[i] += 4
        }
        if part == 2 { qkv[i] *= 20 }
      }
      let expected = ExpectedAttention(h, precision, qkv: qkv, dout: draw.normal(h.samples * h.tokens * h.width))
      #expect(
        expected.largest > (logits == .low || logits == .high ? 390 : 80),
        "the inputs are not hard: \(expected.largest)")
      for level in Level.all {
        let problems = expected.problems(PackedAttentionRun(try level.context(), expected))
        #expect(problems.isEmpty, "\(level), \(h.tokens) tokens: \(problems)")
      }
    }
  }

  /// The gradients are those of the loss Σ dout ⊙ out, by central differences of the reference.
  @Test("Packed attention's gradient is the slope by central differences", arguments: Level.all)
  func differences(_ level: Level) throws {
    let expected = ExpectedAttention(Case(2, 5, 2, 3).heads, .fp32)
    let run = PackedAttentionRun(try level.context(), expected)
    let weights = expected.dout.doubles
    let slopes = centralDifferences(at: expected.qkv.doubles) { dot(weights, Reference.attention($0, expected.h).out) }
    #expect(mismatch(run.gradient.array, slopes, within: .softmax(largest: 10, terms: 5)) == nil)
  }

  @Test(
    "Packed attention and its gradient are PyTorch's",
    arguments: ["one", "odd", "wide", "sharp", "long"], Level.all)
  func torch(_ name: String, _ level: Level) throws {
    let fixture = try Fixture("kernels")
    let shape = try fixture.shape("attention.\(name).qkv")
    let heads = try fixture.integers("attention.\(name).heads")[0]
    let h = Reference.Heads(samples: shape[0], tokens: shape[1], heads: heads, size: shape[2] / 3 / heads)
    let (qkv, dout) = try (fixture.floats("attention.\(name).qkv"), fixture.floats("attention.\(name).dy"))
    let expected = ExpectedAttention(h, .fp32, qkv: qkv, dout: dout)
    let run = PackedAttentionRun(try level.context(), expected)
    let tolerance = Tolerance.softmax(largest: expected.largest, terms: h.tokens)
    try #expect(mismatch(run.out.array, fixture.doubles("attention.\(name).y"), within: tolerance) == nil)
    try #expect(mismatch(run.gradient.array, fixture.doubles("attention.\(name).dqkv"), within: tolerance) == nil)
  }
}
