import DiTKernels
import DiTTensor

// The kernels as the network calls them: on slices of its arena and its weights, which the calls keep alive.

extension ComputeContext {
  /// output = input Wᵀ + b (+ table[row mod tableRows])
  func linear(output: Activation, input: Activation, layer: Layer, addingRows table: Slice? = nil, rows: Int) {
    if let packed = layer.packed {
      let none = layer.bias[0..<0]
      let table = table ?? none
      packedLinear(
        output: output.slice.mutableBytes, output.precision, input: input.slice.bytes, packed: packed.slice.bytes,
        packed.precision, bias: layer.bias.span, addingRows: table.span, rows: rows, inputs: layer.inputs,
        outputs: layer.outputs)
    } else if let table {
      linear(
        output: output.slice.mutableSpan, input: input.slice.span, weight: layer.weight.span, bias: layer.bias.span,
        addingRows: table.span, rows: rows, parts: layer.parts, inputs: layer.inputs, outputs: layer.outputs)
    } else {
      linear(
        output: output.slice.mutableSpan, input: input.slice.span, weight: layer.weight.span, bias: layer.bias.span,
        rows: rows, parts: layer.parts, inputs: layer.inputs, outputs: layer.outputs)
    }
  }

  /// output = gelu_tanh(input Wᵀ + b), with the sums in `preactivation` when `saving`.
  func linearGELU(
    output: Activation, preactivation: Activation, saving: Bool, input: Activation, layer: Layer, rows: Int
  ) {
    guard let packed = layer.packed else {
      linearGELU(
        output: output.slice.mutableSpan, preactivation: preactivation.slice.mutableSpan, input: input.slice.span,
        weight: layer.weight.span, bias: layer.bias.span, rows: rows, parts: layer.parts, inputs: layer.inputs,
        outputs: layer.outputs)
      return
    }
    let saved = saving ? preactivation.slice : preactivation.slice[0..<0]
    packedLinearGELU(
      output: output.slice.mutableBytes, preactivation: saved.mutableBytes, input: input.slice.bytes,
      packed: packed.slice.bytes, packed.precision, bias: layer.bias.span, rows: rows, inputs: layer.inputs,
      outputs: layer.outputs)
  }

  /// result = residual + gate ⊙ (input Wᵀ + b), with what the gate multiplies in `output` when `saving`.
  func linearGateResidual(
    result: Slice, output: Activation, saving: Bool, residual: Slice, input: Activation, layer: Layer,
    gate: Modulation.Chunk, samples: Int, tokens: Int
  ) {
    guard let packed = layer.packed else {
      linearGateResidual(
        result: result.mutableSpan, output: output.slice.mutableSpan, residual: residual.span,
        input: input.slice.span, weight: layer.weight.span, bias: layer.bias.span, gate: gate.slice.span,
        gateStride: gate.stride, samples: samples, tokens: tokens, parts: layer.parts, inputs: layer.inputs,
        outputs: layer.outputs)
      return
    }
    let saved = saving ? output.slice : output.slice[0..<0]
    packedLinearGateResidual(
      result: result.mutableSpan, output: saved.mutableBytes, residual: residual.span, input: input.slice.bytes,
      packed: packed.slice.bytes, packed.precision, bias: layer.bias.span, gate: gate.slice.span,
      gateStride: gate.stride, samples: samples, tokens: tokens, inputs: layer.inputs, outputs: layer.outputs)
  }

  /// dx = dy W (or += when `accumulating`)
  func linearBackwardInput(
    inputGradient: Activation, outputGradient: Activation, layer: Layer, rows: Int, accumulating: Bool = false
  ) {
    if let packed = layer.packed {
      packedLinearBackwardInput(
        inputGradient: inputGradient.slice.mutableBytes, inputGradient.precision,
        outputGradient: outputGradient.slice.bytes, packed: packed.slice.bytes, packed.precision, rows: rows,
        inputs: layer.inputs, outputs: layer.outputs, accumulating: accumulating)
    } else {
      linearBackwardInput(
        inputGradient: inputGradient.slice.mutableSpan, outputGradient: outputGradient.slice.span,
        weight: layer.weight.span, rows: rows, inputs: layer.inputs, outputs: layer.outputs,
        accumulating: accumulating)
    }
  }

  /// Back through gelu_tanh and the layer after it: dpre = (dy W) ⊙ gelu'(pre), hidden = gelu(pre).
  func linearBackwardGELU(
    preactivationGradient: Activation, hidden: Activation, preactivation: Activation, outputGradient: Activation,
    layer: Layer, rows: Int
  ) {
    guard let packed = layer.packed else {
      linearBackwardInput(
        inputGradient: preactivationGradient, outputGradient: outputGradient, layer: layer, rows: rows)
      let pre = preactivation.slice[0..<rows * layer.inputs]
      geluBackward(
        output: hidden.slice.mutableSpan, gradient: preactivationGradient.slice.mutableSpan, preactivation: pre.span)
      return
    }
    packedLinearBackwardGELU(
      preactivationGradient: preactivationGradient.slice.mutableBytes, activation: hidden.slice.mutableBytes,
      preactivation: preactivation.slice.bytes, outputGradient: outputGradient.slice.bytes,
      packed: packed.slice.bytes, packed.precision, rows: rows, inputs: layer.inputs, outputs: layer.outputs)
  }

  /// dW += dyᵀ x; db += Σ dy. With `scratch` over packed operands.
  func linearBackwardWeight(
    weightGradient: Slice, biasGradient: Slice, outputGradient: Activation, input: Activation, scratch: Slice?,
    rows: Int, inputs: Int, outputs: Int
  ) {
    if let scratch {
      packedLinearBackwardWeight(
        weightGradient: weightGradient.mutableSpan, biasGradient: biasGradient.mutableSpan,
        outputGradient: outputGradient.slice.bytes, input: input.slice.bytes, scratch: scratch.mutableBytes,
        input.precision, rows: rows, inputs: inputs, outputs: outputs)
    } else {
      linearBackwardWeight(
        weightGradient: weightGradient.mutableSpan, biasGradient: biasGradient.mutableSpan,
        outputGradient: outputGradient.slice.span, input: input.slice.span, rows: rows, inputs: inputs,
        outputs: outputs)
    }
  }

  func silu(output: Slice, input: Slice) {
    silu(output: output.mutableSpan, input: input.span)
  }

  func siluBackward(inputGradient: Slice, outputGradient: Slice, input: Slice) {
    siluBackward(
      inputGradient: inputGradient.mutableSpan, outputGradient: outputGradient.span, input: input.span)
  }
}

func addEmbedding(output: Slice, table: Slice, labels: Span<Int>, width: Int) {
  addEmbedding(output: output.mutableSpan, table: table.span, labels: labels, width: width)
}

func addEmbeddingBackward(tableGradient: Slice, outputGradient: Slice, labels: Span<Int>, width: Int) {
  addEmbeddingBackward(
    tableGradient: tableGradient.mutableSpan, outputGradient: outputGradient.span, labels: labels, width: width)
}

// MARK: - Normalisation, gates and attention over a batch of one network

/// The extents that a block's kernels share.
struct TokenExtents {
  /// `tokens` of each sample, of which the first `prefix` are not the image's.
  let samples, tokens, prefix, width, heads: Int
  /// Whether some of the prefix may be padding.
  let hasPadding: Bool
  /// So many of each sample's first `prefix` tokens are keys, the others padding; empty: all of them.
  let prefixKeys: [Int]
  let rule: AttentionRule

  /// Those of the blocks.
  init(_ configuration: DiTConfiguration, samples: Int, prefixKeys: [Int] = []) {
    self.init(
      configuration, samples: samples, tokens: configuration.totalTokens, prefix: configuration.prefixTokens,
      prefixKeys: prefixKeys)
  }

  /// Those of the final layer, which sees the image's tokens only.
  init(imagesOf configuration: DiTConfiguration, samples: Int) {
    self.init(configuration, samples: samples, tokens: configuration.tokens, prefix: 0, prefixKeys: [])
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

extension ComputeContext {
  func layerNormModulate(
    output: Activation, mean: Slice, rstd: Slice, input: Slice, shift: Modulation.Chunk, scale: Modulation.Chunk,
    epsilon: Float, _ extents: TokenExtents
  ) {
    layerNormModulate(
      output: output.slice.mutableBytes, output.precision, mean: mean.mutableSpan, rstd: rstd.mutableSpan,
      input: input.span,
      shift: shift.slice.span, scale: scale.slice.span, stride: shift.stride, epsilon: epsilon,
      samples: extents.samples, tokens: extents.tokens, width: extents.width)
  }

  func modulateFromStatistics(
    output: Activation, mean: Slice, rstd: Slice, input: Slice, shift: Modulation.Chunk, scale: Modulation.Chunk,
    _ extents: TokenExtents
  ) {
    modulateFromStatistics(
      output: output.slice.mutableBytes, output.precision, mean: mean.span, rstd: rstd.span, input: input.span,
      shift: shift.slice.span,
      scale: scale.slice.span, stride: shift.stride, samples: extents.samples, tokens: extents.tokens,
      width: extents.width)
  }

  func layerNormModulateBackward(
    inputGradient: Slice, shiftGradient: Modulation.Chunk, scaleGradient: Modulation.Chunk, scratch: Slice,
    outputGradient: Slice, mean: Slice, rstd: Slice, input: Slice, scale: Modulation.Chunk, _ extents: TokenExtents
  ) {
    layerNormModulateBackward(
      inputGradient: inputGradient.mutableSpan, shiftGradient: shiftGradient.slice.mutableSpan,
      scaleGradient: scaleGradient.slice.mutableSpan, gradientStride: shiftGradient.stride,
      scratch: scratch.mutableSpan, outputGradient: outputGradient.span, mean: mean.span, rstd: rstd.span,
      input: input.span, scale: scale.slice.span, stride: scale.stride, samples: extents.samples,
      tokens: extents.tokens, width: extents.width)
  }

  func gateBackward(
    outputGradient: Activation, gateGradient: Modulation.Chunk, scratch: Slice, residualGradient: Slice,
    output: Activation,
    gate: Modulation.Chunk, _ extents: TokenExtents
  ) {
    gateBackward(
      outputGradient: outputGradient.slice.mutableBytes, outputGradient.precision,
      gateGradient: gateGradient.slice.mutableSpan, gradientStride: gateGradient.stride,
      scratch: scratch.mutableSpan, residualGradient: residualGradient.span, output: output.slice.bytes,
      gate: gate.slice.span, stride: gate.stride, samples: extents.samples,
      tokens: extents.tokens, width: extents.width)
  }

  /// `isPacked`: over packed operands rather than OpenBLAS. `scales` and `widths` as in ``Modulation``.
  func attention(
    output: Activation, logsumexp: Slice, scratch: Slice, qkv: Activation, isPacked: Bool, scales: Slice,
    widths: Slice, _ extents: TokenExtents
  ) {
    if usesPackedAttention(qkv.precision, isPacked: isPacked, extents) {
      packedAttention(
        output: output.slice.mutableBytes, logsumexp: logsumexp.mutableSpan, scratch: scratch.mutableBytes,
        qkv: qkv.slice.bytes, qkv.precision, extents.attention, rule: extents.rule, scales: scales.span,
        widths: widths.span, prefixKeys: extents.prefixKeys.span)
    } else {
      attention(
        output: output.slice.mutableSpan, logsumexp: logsumexp.mutableSpan, scratch: scratch.mutableSpan,
        qkv: qkv.slice.span, extents.attention, scales: scales.span)
    }
  }

  /// `queryDots`: Σ q·dq of each head of each sample, where there are gates.
  func attentionBackward(
    qkvGradient: Activation, queryDots: Slice, scratch: Slice, outputGradient: Activation, output: Activation,
    logsumexp: Slice, qkv: Activation, isPacked: Bool, scales: Slice, widths: Slice, _ extents: TokenExtents
  ) {
    if usesPackedAttention(qkv.precision, isPacked: isPacked, extents) {
      packedAttentionBackward(
        qkvGradient: qkvGradient.slice.mutableBytes, queryDots: queryDots.mutableSpan, scratch: scratch.mutableBytes,
        outputGradient: outputGradient.slice.bytes, output: output.slice.bytes, logsumexp: logsumexp.span,
        qkv: qkv.slice.bytes, qkv.precision, extents.attention, rule: extents.rule, scales: scales.span,
        widths: widths.span, prefixKeys: extents.prefixKeys.span)
    } else {
      attentionBackward(
        qkvGradient: qkvGradient.slice.mutableSpan, scratch: scratch.mutableSpan,
        outputGradient: outputGradient.slice.span, output: output.slice.span, logsumexp: logsumexp.span,
        qkv: qkv.slice.span, extents.attention, scales: scales.span)
    }
  }

  /// Floats of scratch that either attention needs.
  func attentionScratch(
    _ c: DiTConfiguration, samples: Int, _ precision: Precision, isPacked: Bool, backward: Bool
  ) -> Int {
    let extents = TokenExtents(c, samples: samples)
    return usesPackedAttention(precision, isPacked: isPacked, extents)
      ? packedAttentionScratch(extents.attention, rule: extents.rule, backward: backward)
      : attentionScratch(extents.attention, backward: backward)
  }

  /// Few tokens in float32 have a kernel of their own that packs nothing; only the packed one leaves padding out and has
  /// windows.
  private func usesPackedAttention(_ precision: Precision, isPacked: Bool, _ extents: TokenExtents) -> Bool {
    precision == .bf16 || (isPacked && extents.tokens > Self.fewTokens) || extents.hasPadding
      || extents.rule.mask != .none
  }
}
