import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// Attention with a scale for each head, windows, masks and a prefix: against Double written from the formulas, and
/// against torch's autograd over dense logits.
@Suite("Attention with scales, windows, masks and a prefix") struct WindowedAttentionTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let heads: Reference.Heads
    let windows: Reference.Windows
    let testDescription: String

    /// - Parameters:
    ///   - widths: k of each sample.
    ///   - columns: for the distance on the grid.
    ///   - prefixKeys: of each sample, where there is a prefix.
    init(
      _ mask: Reference.Windows.Mask, _ widths: [Int], tokens: Int, heads: Int = 1, size: Int, columns: Int? = nil,
      prefix: Int = 0, prefixKeys: [Int] = []
    ) {
      var windows = Reference.Windows()
      (windows.mask, windows.widths, windows.columns) = (mask, widths, columns)
      (windows.prefix, windows.prefixKeys) = (prefix, prefixKeys)
      self.heads = Reference.Heads(samples: widths.count, tokens: prefix + tokens, heads: heads, size: size)
      var draw = Draw(seed: 131)
      // Rounded to float32, as the kernels take them.
      windows.scales = draw.normal(widths.count * heads).map { Double(0.3 + abs($0) / 4) }
      self.windows = windows
      let grid = columns.map { " in \($0) columns" } ?? ""
      testDescription = "\(mask) \(widths), \(prefix)+\(tokens) tokens\(grid), \(heads) heads of \(size)"
    }
  }

  /// 130 and 300 image tokens end inside a second and a third block of queries; 700 and 1100 have windows across two and
  /// three blocks of keys, odd ends among them. Widths: a token alone, a few, most, one less than all, all, more than all.
  static let cases = masked(.soft) + masked(.hard) + unmasked

  private static func masked(_ mask: Reference.Windows.Mask) -> [Case] {
    [
      Case(mask, [1, 3, 16, 17, 40], tokens: 17, heads: 2, size: 5),
      Case(mask, [1, 20, 129, 130], tokens: 130, size: 9),
      Case(mask, [33, 299], tokens: 300, heads: 2, size: 72),
      Case(mask, [90, 401], tokens: 700, size: 16),
      Case(mask, [275], tokens: 1100, size: 9),
      // The first row of the second block of queries has token 0 alone outside its window, the last of the first the last.
      Case(mask, [128], tokens: 256, size: 9),
      Case(mask, [1, 2, 5, 9], tokens: 54, size: 8, columns: 9),
      Case(mask, [3, 17], tokens: 23 * 30, size: 8, columns: 30),
      Case(mask, [2, 9, 5], tokens: 140, heads: 2, size: 9, prefix: 7, prefixKeys: [7, 3, 0]),
      Case(mask, [4, 7], tokens: 12 * 12, size: 8, columns: 12, prefix: 130, prefixKeys: [130, 77]),
      Case(mask, [1], tokens: 1, size: 3),
    ]
  }

  private static let unmasked = [
    Case(.none, [1, 1], tokens: 70, heads: 2, size: 8),
    Case(.none, [1, 1, 1], tokens: 140, size: 9, prefix: 6, prefixKeys: [6, 1, 0]),
    Case(.none, [1, 1], tokens: 30, size: 9, prefix: 600, prefixKeys: [599, 20]),
  ]

  @Test("Windowed attention and its gradients agree with the Double reference", arguments: cases, Precision.allCases)
  func reference(_ c: Case, _ precision: Precision) throws {
    let expected = ExpectedAttention(c.heads, precision, c.windows)
    for level in Level.all {
      let problems = expected.problems(PackedAttentionRun(try level.context(), expected))
      #expect(problems.isEmpty, "\(level): \(problems)")
    }
  }

  /// All logits inside near −400: without a token outside, its e^−m must not be formed; with one, it has all the weight.
  @Test(
    "Windows whose logits all lie near -400 keep their precision",
    arguments: [Reference.Windows.Mask.soft, .hard], Precision.allCases)
  func lowLogits(_ mask: Reference.Windows.Mask, _ precision: Precision) throws {
    for c in [
      Case(mask, [4, 17, 30], tokens: 17, size: 16), Case(mask, [200, 300], tokens: 300, size: 16),
      Case(mask, [3, 5], tokens: 25, size: 16, columns: 5),
    ] {
      let h = c.heads
      var windows = c.windows
      windows.scales = windows.scales.map { _ in 0.25 }
      var draw = Draw(seed: 132)
      var qkv = draw.normal(3 * h.samples * h.tokens * h.width, deviation: 0.05)
      for i in qkv.indices {
        if i / h.width % 3 == 0 { qkv[i] += 10 }
        if i / h.width % 3 == 1 { qkv[i] -= 10 }
      }
      let dout = draw.normal(h.samples * h.tokens * h.width)
      let expected = ExpectedAttention(h, precision, windows, qkv: qkv, dout: dout)
      #expect(expected.largest > 390, "the inputs are not hard: \(expected.largest)")
      for level in Level.all {
        let problems = expected.problems(PackedAttentionRun(try level.context(), expected))
        #expect(problems.isEmpty, "\(level), \(c): \(problems)")
      }
    }
  }

  /// The gradients are those of the loss Σ dout ⊙ out, by central differences of the reference: of q, k and v, and of a
  /// factor on each head's scale.
  @Test(
    "Gradients of q, k, v and of each head's scale are the slopes by central differences",
    arguments: [Reference.Windows.Mask.soft, .hard], Level.all)
  func differences(_ mask: Reference.Windows.Mask, _ level: Level) throws {
    let c = Case(mask, [2, 4], tokens: 6, heads: 2, size: 3, prefix: 1)
    let expected = ExpectedAttention(c.heads, .fp32, c.windows)
    let run = PackedAttentionRun(try level.context(), expected)
    let (weights, qkv) = (expected.dout.doubles, expected.qkv.doubles)
    func loss(_ qkv: [Double], _ windows: Reference.Windows) -> Double {
      dot(weights, Reference.attention(qkv, c.heads, windows).out)
    }
    let slopes = centralDifferences(at: qkv) { loss($0, c.windows) }
    #expect(mismatch(run.gradient.array, slopes, within: .softmax(largest: 10, terms: 7)) == nil)
    let factors = centralDifferences(at: c.windows.scales.map { _ in 1.0 }) { factors in
      var windows = c.windows
      windows.scales = zip(windows.scales, factors).map { $0 * $1 }
      return loss(qkv, windows)
    }
    #expect(mismatch(run.queryDots.array, factors, within: .softmax(largest: 10, terms: 7)) == nil)
  }

  /// A window over all tokens is plain attention, to the bit.
  @Test(
    "A window over all tokens has the bits of plain attention",
    arguments: [Reference.Windows.Mask.soft, .hard], Precision.allCases)
  func fullWindow(_ mask: Reference.Windows.Mask, _ precision: Precision) throws {
    let h = Reference.Heads(samples: 1, tokens: 300, heads: 2, size: 9)
    var windows = Reference.Windows()
    (windows.mask, windows.widths) = (mask, [300])
    for level in Level.all {
      let plain = PackedAttentionRun(try level.context(), ExpectedAttention(h, precision))
      let full = PackedAttentionRun(try level.context(), ExpectedAttention(h, precision, windows))
      #expect(full.out.array == plain.out.array, "\(level)")
      #expect(full.logsumexp.array == plain.logsumexp.array, "\(level)")
      #expect(full.gradient.array == plain.gradient.array, "\(level)")
    }
  }

  @Test(
    "Windowed attention and its gradients are PyTorch's",
    arguments: [
      "soft", "hard", "soft.grid", "hard.grid", "soft.prefix", "hard.prefix", "none.prefix", "soft.long", "soft.sharp",
    ], Level.all)
  func torch(_ name: String, _ level: Level) throws {
    let fixture = try Fixture("windows")
    let sizes = try fixture.integers("\(name).sizes")
    let shape = try fixture.shape("\(name).qkv")
    let h = Reference.Heads(
      samples: shape[0], tokens: shape[1], heads: sizes[1], size: shape[2] / 3 / sizes[1])
    var windows = Reference.Windows()
    windows.mask = [.none, .soft, .hard][sizes[0]]
    (windows.prefix, windows.columns) = (sizes[2], sizes[3] > 0 ? sizes[3] : nil)
    windows.widths = try fixture.integers("\(name).widths")
    windows.prefixKeys = try fixture.integers("\(name).keys")
    let (base, gate) = try (fixture.floats("\(name).base"), fixture.floats("\(name).gate"))
    windows.scales = zip(base, gate).map { Double($0 * $1) }
    let expected = try ExpectedAttention(
      h, .fp32, windows, qkv: fixture.floats("\(name).qkv"), dout: fixture.floats("\(name).dy"))
    let run = PackedAttentionRun(try level.context(), expected)
    let tolerance = Tolerance.softmax(largest: expected.largest, terms: h.tokens)
    // Padding attends too; its output is unused.
    let out = zip(run.out.array, try fixture.doubles("\(name).y"))
    #expect(mismatch(out.map(\.0), out.map(\.1), within: tolerance) == nil)
    try #expect(mismatch(run.gradient.array, fixture.doubles("\(name).dqkv"), within: tolerance) == nil)
    let gradient = zip(run.queryDots.array, gate).map { $0 / $1 }
    try #expect(mismatch(gradient, fixture.doubles("\(name).dgate"), within: .networkGradient) == nil)
  }
}
