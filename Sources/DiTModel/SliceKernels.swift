import DiTKernels
import DiTTensor

// The kernels as the network calls them: on slices of its arena and its weights, which the calls keep alive.

extension ComputeContext {
  func linear(
    output: Slice, input: Slice, weight: Slice, bias: Slice, rows: Int, inputs: Int, outputs: Int
  ) {
    linear(
      output: output.mutableSpan, input: input.span, weight: weight.span, bias: bias.span, rows: rows, inputs: inputs,
      outputs: outputs)
  }

  func linear(
    output: Slice, input: Slice, weight: Slice, bias: Slice, addingRows table: Slice, rows: Int, inputs: Int,
    outputs: Int
  ) {
    linear(
      output: output.mutableSpan, input: input.span, weight: weight.span, bias: bias.span, addingRows: table.span,
      rows: rows, inputs: inputs, outputs: outputs)
  }

  func linearGELU(
    output: Slice, preactivation: Slice, input: Slice, weight: Slice, bias: Slice, rows: Int, inputs: Int, outputs: Int
  ) {
    linearGELU(
      output: output.mutableSpan, preactivation: preactivation.mutableSpan, input: input.span, weight: weight.span,
      bias: bias.span, rows: rows, inputs: inputs, outputs: outputs)
  }

  func linearGateResidual(
    result: Slice, output: Slice, residual: Slice, input: Slice, weight: Slice, bias: Slice, gate: Modulation.Chunk,
    samples: Int, tokens: Int, inputs: Int, outputs: Int
  ) {
    linearGateResidual(
      result: result.mutableSpan, output: output.mutableSpan, residual: residual.span, input: input.span,
      weight: weight.span, bias: bias.span, gate: gate.slice.span, gateStride: gate.stride, samples: samples,
      tokens: tokens, inputs: inputs, outputs: outputs)
  }

  func linearBackwardInput(
    inputGradient: Slice, outputGradient: Slice, weight: Slice, rows: Int, inputs: Int, outputs: Int,
    accumulating: Bool = false
  ) {
    linearBackwardInput(
      inputGradient: inputGradient.mutableSpan, outputGradient: outputGradient.span, weight: weight.span, rows: rows,
      inputs: inputs, outputs: outputs, accumulating: accumulating)
  }

  func linearBackwardWeight(
    weightGradient: Slice, biasGradient: Slice, outputGradient: Slice, input: Slice, rows: Int, inputs: Int,
    outputs: Int
  ) {
    linearBackwardWeight(
      weightGradient: weightGradient.mutableSpan, biasGradient: biasGradient.mutableSpan,
      outputGradient: outputGradient.span, input: input.span, rows: rows, inputs: inputs, outputs: outputs)
  }

  func geluBackward(output: Slice, gradient: Slice, preactivation: Slice) {
    geluBackward(output: output.mutableSpan, gradient: gradient.mutableSpan, preactivation: preactivation.span)
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
  let samples, tokens, width, heads: Int

  init(_ configuration: DiTConfiguration, samples: Int) {
    self.samples = samples
    tokens = configuration.tokens
    width = configuration.hiddenSize
    heads = configuration.numHeads
  }
}

extension ComputeContext {
  func layerNormModulate(
    output: Slice, mean: Slice, rstd: Slice, input: Slice, shift: Modulation.Chunk, scale: Modulation.Chunk,
    epsilon: Float, _ extents: TokenExtents
  ) {
    layerNormModulate(
      output: output.mutableSpan, mean: mean.mutableSpan, rstd: rstd.mutableSpan, input: input.span,
      shift: shift.slice.span, scale: scale.slice.span, stride: shift.stride, epsilon: epsilon,
      samples: extents.samples, tokens: extents.tokens, width: extents.width)
  }

  func modulateFromStatistics(
    output: Slice, mean: Slice, rstd: Slice, input: Slice, shift: Modulation.Chunk, scale: Modulation.Chunk,
    _ extents: TokenExtents
  ) {
    modulateFromStatistics(
      output: output.mutableSpan, mean: mean.span, rstd: rstd.span, input: input.span, shift: shift.slice.span,
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
    outputGradient: Slice, gateGradient: Modulation.Chunk, scratch: Slice, residualGradient: Slice, output: Slice,
    gate: Modulation.Chunk, _ extents: TokenExtents
  ) {
    gateBackward(
      outputGradient: outputGradient.mutableSpan, gateGradient: gateGradient.slice.mutableSpan,
      gradientStride: gateGradient.stride, scratch: scratch.mutableSpan, residualGradient: residualGradient.span,
      output: output.span, gate: gate.slice.span, stride: gate.stride, samples: extents.samples,
      tokens: extents.tokens, width: extents.width)
  }

  func attention(output: Slice, logsumexp: Slice, scratch: Slice, qkv: Slice, _ extents: TokenExtents) {
    attention(
      output: output.mutableSpan, logsumexp: logsumexp.mutableSpan, scratch: scratch.mutableSpan, qkv: qkv.span,
      samples: extents.samples, tokens: extents.tokens, heads: extents.heads,
      headSize: extents.width / extents.heads)
  }

  func attentionBackward(
    qkvGradient: Slice, scratch: Slice, outputGradient: Slice, output: Slice, logsumexp: Slice, qkv: Slice,
    _ extents: TokenExtents
  ) {
    attentionBackward(
      qkvGradient: qkvGradient.mutableSpan, scratch: scratch.mutableSpan, outputGradient: outputGradient.span,
      output: output.span, logsumexp: logsumexp.span, qkv: qkv.span, samples: extents.samples,
      tokens: extents.tokens, heads: extents.heads, headSize: extents.width / extents.heads)
  }
}
