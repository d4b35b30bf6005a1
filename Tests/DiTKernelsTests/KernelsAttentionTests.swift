import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// softmax(q kᵀ / √d) v and its gradient, on both of its paths: up to 64 tokens in one vector kernel, beyond that over
/// blocks of queries through sgemm.
@Suite("Softmax attention and its gradient, in one kernel or over blocks of queries") struct AttentionTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let heads: Reference.Heads

    init(_ samples: Int, _ tokens: Int, _ heads: Int, _ size: Int) {
      self.heads = Reference.Heads(samples: samples, tokens: tokens, heads: heads, size: size)
    }

    var testDescription: String { "\(heads.samples)×\(heads.tokens), \(heads.heads) heads of \(heads.size)" }
  }

  /// Samples, tokens, heads, head size. 300 tokens are two blocks of queries, 1100 nineteen.
  static let cases = [
    Case(1, 1, 1, 1), Case(2, 3, 3, 5), Case(1, 5, 2, 8), Case(2, 7, 1, 16), Case(1, 16, 2, 64), Case(1, 17, 1, 72),
    Case(2, 33, 3, 32), Case(1, 63, 1, 5), Case(1, 64, 2, 8), Case(2, 65, 2, 8), Case(1, 130, 2, 72),
    Case(2, 300, 3, 5), Case(1, 300, 1, 64), Case(1, 1100, 1, 16),
  ]

  /// The kernels over one case.
  private struct Run {
    let operands = Operands()
    let out, logsumexp, gradient: Slice

    init(_ context: ComputeContext, _ h: Reference.Heads, qkv: [Float], dout: [Float]) {
      let values = operands.input("qkv", qkv)
      out = operands.output("out", h.samples * h.tokens * h.width)
      logsumexp = operands.output("logsumexp", h.samples * h.heads * h.tokens)
      gradient = operands.output("dqkv", qkv.count)
      let forward = operands.output(
        "scratch", context.attentionScratch(h.extents, backward: false))
      context.attention(
        output: out.mutableSpan, logsumexp: logsumexp.mutableSpan, scratch: forward.mutableSpan, qkv: values.span,
        h.extents)
      let backward = operands.output(
        "backward scratch", context.attentionScratch(h.extents, backward: true))
      context.attentionBackward(
        qkvGradient: gradient.mutableSpan, scratch: backward.mutableSpan,
        outputGradient: operands.input("dout", dout).span, output: out.span, logsumexp: logsumexp.span,
        qkv: values.span, h.extents)
    }

    /// What disagrees with the reference.
    func problems(_ h: Reference.Heads, qkv: [Float], dout: [Float], largest: Double) -> [String] {
      let reference = Reference.attention(qkv.doubles, h)
      let tolerance = Tolerance.softmax(largest: largest, terms: h.tokens)
      return [
        mismatch(out.array, reference.out, within: tolerance).map { "out " + $0 },
        // Two or three roundings of the largest logit, which logsumexp is close to.
        mismatch(logsumexp.array, reference.logsumexp, within: .sum(of: h.size)).map { "logsumexp " + $0 },
        mismatch(gradient.array, Reference.attentionGradient(dout.doubles, qkv.doubles, h), within: tolerance).map {
          "dqkv " + $0
        },
        operands.damage,
      ].compactMap { $0 }
    }
  }

  @Test(
    "Attention, log-sum-exp and gradient agree with the Double reference",
    arguments: cases, InstructionSet.runnable)
  func reference(_ c: Case, _ level: InstructionSet) throws {
    var draw = Draw(seed: 41)
    let h = c.heads
    let (qkv, dout) = (draw.normal(3 * h.samples * h.tokens * h.width), draw.normal(h.samples * h.tokens * h.width))
    let run = Run(try ComputeContext(threads: 2, instructionSet: level), h, qkv: qkv, dout: dout)
    let largest = Reference.largestLogit(qkv.doubles, h)
    #expect(run.problems(h, qkv: qkv, dout: dout, largest: largest) == [])
  }

  /// How the logits of a hard case lie.
  enum Logits: CaseIterable {
    /// ±80 and more: some weights are 1, some below Float's smallest.
    case wide
    /// All near −400 or near +400: without the row's maximum taken off, every exponential under- or overflows.
    case low, high
  }

  @Test(
    "Large and shifted logits neither overflow nor lose precision",
    arguments: [Case(1, 17, 2, 16), Case(1, 130, 2, 16)], Logits.allCases)
  func largeLogits(_ c: Case, _ logits: Logits) throws {
    var draw = Draw(seed: 42)
    let h = c.heads
    let third = h.width
    var qkv = draw.normal(3 * h.samples * h.tokens * h.width, deviation: logits == .wide ? 5.5 : 0.05)
    if logits != .wide {
      for i in qkv.indices {
        let part = i / third % 3
        if part == 0 { qkv[i] += 10 }
        if part == 1 { qkv[i] += logits == .low ? -10 : 10 }
      }
    }
    let dout = draw.normal(h.samples * h.tokens * h.width)
    let largest = Reference.largestLogit(qkv.doubles, h)
    #expect(largest > (logits == .wide ? 80 : 390), "the inputs are not hard: \(largest)")
    for level in InstructionSet.runnable {
      let run = Run(try ComputeContext(threads: 2, instructionSet: level), h, qkv: qkv, dout: dout)
      #expect(run.problems(h, qkv: qkv, dout: dout, largest: largest) == [], "\(level)")
    }
  }

  /// The gradients are those of the loss Σ dout ⊙ out, by central differences of the reference, on both paths.
  @Test(
    "Attention's gradient is the slope by central differences",
    arguments: [Case(2, 5, 2, 3), Case(1, 66, 1, 2)], InstructionSet.runnable)
  func differences(_ c: Case, _ level: InstructionSet) throws {
    var draw = Draw(seed: 43)
    let h = c.heads
    let (qkv, dout) = (draw.normal(3 * h.samples * h.tokens * h.width), draw.normal(h.samples * h.tokens * h.width))
    let run = Run(try ComputeContext(threads: 2, instructionSet: level), h, qkv: qkv, dout: dout)
    let weights = dout.doubles
    let expected = centralDifferences(at: qkv.doubles) { dot(weights, Reference.attention($0, h).out) }
    #expect(mismatch(run.gradient.array, expected, within: .softmax(largest: 10, terms: h.tokens)) == nil)
  }

  @Test(
    "Attention and its gradient are PyTorch's",
    arguments: ["one", "odd", "wide", "sharp", "long"], InstructionSet.runnable)
  func torch(_ name: String, _ level: InstructionSet) throws {
    let fixture = try Fixture("kernels")
    let shape = try fixture.shape("attention.\(name).qkv")
    let heads = try fixture.integers("attention.\(name).heads")[0]
    let h = Reference.Heads(samples: shape[0], tokens: shape[1], heads: heads, size: shape[2] / 3 / heads)
    let (qkv, dout) = try (fixture.floats("attention.\(name).qkv"), fixture.floats("attention.\(name).dy"))
    let run = Run(try ComputeContext(threads: 2, instructionSet: level), h, qkv: qkv, dout: dout)
    let tolerance = Tolerance.softmax(largest: Reference.largestLogit(qkv.doubles, h), terms: h.tokens)
    try #expect(mismatch(run.out.array, fixture.doubles("attention.\(name).y"), within: tolerance) == nil)
    try #expect(mismatch(run.gradient.array, fixture.doubles("attention.\(name).dqkv"), within: tolerance) == nil)
  }
}
