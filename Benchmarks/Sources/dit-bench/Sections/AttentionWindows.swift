import DiTEngine

/// What attention costs as the noise mask's window closes.
enum AttentionWindows: Section {
  static let name = "windows"
  static let note = """
    6 heads of 64 in float32, batch 1; image token i sees |i − j| < k. Pairs: those inside the windows, in tiles of \
    64 × 64, over all. Bound: 1.4 × the time of full attention × pairs, and a tenth of full attention's time.
    """
  private static let tile = 64
  private static let heads = 6
  private static let headSize = 64

  static func run(_ session: Session) throws {
    for tokens in session.isQuick ? [1024] : [1024, 4096] {
      for isBackward in [false, true] {
        let pass = isBackward ? "backward" : "forward"
        let widths = [16, 64, 256, 512, 1024, 2048, 3072, 4096].filter { $0 <= tokens }
        let works = ["soft", "hard"].flatMap { mask in widths.map { "\(mask), k = \($0)" } }
        guard works.contains(where: { session.wants(name(tokens, pass, $0)) }) else { continue }
        let plain = work(session.context, tokens, isBackward, AttentionRule(), width: tokens)
        for (mask, word) in [(AttentionRule.Mask.soft, "soft"), (.hard, "hard")] {
          for width in widths where session.wants(name(tokens, pass, "\(word), k = \(width)")) {
            let masked = work(session.context, tokens, isBackward, AttentionRule(mask: mask), width: width)
            // One after the other, so that a machine's drift falls out of the ratio.
            let (full, time) = (Measurement(budget: 0.5, plain), Measurement(budget: 0.5, masked))
            try session.add(
              name(tokens, pass, "\(word), k = \(width)"),
              Field.time(time) + fields(full, time.median / full.median, share(tokens, width)))
          }
        }
      }
    }
  }

  private static func name(_ tokens: Int, _ pass: String, _ work: String) -> String {
    "\(tokens) tokens, \(pass), \(work)"
  }

  private static func fields(_ full: Measurement, _ time: Double, _ pairs: Double) -> [Field] {
    [
      Field("full, ms", "full_ms", full.median * 1e3),
      Field("pairs", "pair_share", pairs), Field("time / full", "time_share", time),
      Field("bound", "bound_share", 1.4 * pairs + 0.1),
    ]
  }

  /// The share of the tiles of 64 × 64 pairs that a window touches.
  private static func share(_ tokens: Int, _ width: Int) -> Double {
    let tiles = (tokens + tile - 1) / tile
    let touched = (0..<tiles).reduce(0) { sum, row in
      let first = max(0, row * tile - width + 1) / tile
      let last = min(tokens - 1, (row + 1) * tile - 1 + width - 1) / tile
      return sum + last - first + 1
    }
    return Double(touched) / Double(tiles * tiles)
  }

  private static func work(
    _ context: ComputeContext, _ tokens: Int, _ isBackward: Bool, _ rule: AttentionRule, width window: Int
  ) -> () -> Void {
    let extents = AttentionExtents(samples: 1, tokens: tokens, heads: heads, headSize: headSize)
    let count = tokens * heads * headSize
    var random = Philox(seed: 6)
    let width = heads * headSize
    func matrix(_ columns: Int, _ values: [Float]?) -> MutableMatrix {
      let memory = values.map { MutableFloatSlice($0) } ?? MutableFloatSlice(zeros: tokens * columns)
      return MutableMatrix(memory, rows: tokens, columns: columns)
    }
    let (qkv, dy) = (
      matrix(3 * width, random.normal(count: 3 * count)), matrix(width, random.normal(count: count))
    )
    let (output, gradient) = (matrix(width, nil), matrix(3 * width, nil))
    let logsumexp = MutableFloatSlice(zeros: tokens * heads)
    let scratch = MutableFloatSlice(
      zeros: [false, true].map { context.attentionScratch(extents, rule: rule, method: .packed, backward: $0) }.max()
        ?? 0)
    let operands = AttentionOperands(
      qkv: qkv.reading, extents, rule: rule, widths: FloatSlice([Float(window)]), scratch: scratch)
    let forward = { context.attention(output: output, logsumexp: logsumexp, operands) }
    forward()
    guard isBackward else { return forward }
    return {
      context.attentionBackward(
        qkvGradient: gradient, outputGradient: dy.reading, output: output.reading, logsumexp: logsumexp.reading,
        operands)
    }
  }
}
