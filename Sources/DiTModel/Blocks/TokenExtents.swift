import DiTKernels
import DiTTensor

/// The extents that a block's kernels share.
struct TokenExtents {
  /// `tokens` of each sample, of which the first `prefix` are not the image's.
  let samples, tokens, prefix, width, heads: Int
  /// Whether some of the prefix may be padding.
  let hasPadding: Bool
  /// So many of each sample's first `prefix` tokens are keys, the others padding; empty: all of them.
  let prefixKeys: [Int]
  let rule: AttentionRule

  /// Those of the blocks; without the prefix, of the image's tokens alone.
  init(_ c: DiTConfiguration, samples: Int, hasPrefix: Bool = true, prefixKeys: [Int] = []) {
    self.init(
      c, samples: samples, tokens: hasPrefix ? c.totalTokens : c.tokens, prefix: hasPrefix ? c.prefixTokens : 0,
      prefixKeys: prefixKeys)
  }

  private init(_ c: DiTConfiguration, samples: Int, tokens: Int, prefix: Int, prefixKeys: [Int]) {
    self.samples = samples
    self.tokens = tokens
    self.prefix = prefix
    self.prefixKeys = prefixKeys
    hasPadding = prefix > 0 && c.sequence != nil
    width = c.hiddenSize
    heads = c.numHeads
    let mask: AttentionRule.Mask =
      switch c.attention.mask {
      case .none: .none
      case .soft: .soft
      case .hard: .hard
      }
    rule = AttentionRule(
      mask: mask, prefix: prefix, columns: c.attention.distance == .grid ? c.inputGrid.columns : nil)
  }

  var rows: Int { samples * tokens }

  var attention: AttentionExtents {
    AttentionExtents(samples: samples, tokens: tokens, heads: heads, headSize: width / heads)
  }
}

// MARK: - Attention

extension TokenExtents {
  /// What attention reads. `isPacked`: over packed operands rather than OpenBLAS, where both can.
  ///
  /// Few tokens in float32 have a kernel of their own that packs nothing; only the packed one leaves padding out and has
  /// windows.
  func operands(
    qkv: Matrix, _ modulation: Modulation, block: Int, scratch: MutableFloatSlice, isPacked: Bool
  ) -> AttentionOperands {
    AttentionOperands(
      qkv: qkv, attention, rule: rule, scales: modulation.scales(block).reading, widths: modulation.widths.reading,
      prefixKeys: prefixKeys, scratch: scratch, method: method(qkv.format, isPacked: isPacked))
  }

  private func method(_ format: Format, isPacked: Bool) -> AttentionMethod {
    let isPacked =
      format == .bf16 || (isPacked && tokens > ComputeContext.fewTokens) || hasPadding || rule.mask != .none
    return isPacked ? .packed : .blas
  }

  /// Floats of scratch that attention needs in one direction.
  func attentionScratch(_ context: ComputeContext, _ format: Format, isPacked: Bool, backward: Bool) -> Int {
    context.attentionScratch(
      attention, rule: rule, method: method(format, isPacked: isPacked), backward: backward)
  }
}
