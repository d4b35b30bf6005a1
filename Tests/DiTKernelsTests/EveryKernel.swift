import DiTKernels
import DiTTensor
import TestSupport

/// Every kernel once, over sizes that are cut into several tasks, and what each computed: for comparing runs bit by bit.
///
/// ``KernelTableTests`` sees to it that no kernel of the table is missing.
func everyKernel(_ context: ComputeContext) -> [(String, [Float])] {
  products(context) + smallBatch(context) + rows(context) + attentions(context) + flatLoops(context)
    + convolution(context, .fp32, usesBLAS: true) + patchConvolution(context) + channels(context)
    + Precision.allCases.flatMap { packed(context, $0) }
}

/// Whether ``everyKernel`` computed it in bf16.
func isBF16(_ name: String) -> Bool { name.hasPrefix("bf16 ") }

/// The kernels that take a format, in one: products, rows, attention.
private func packed(_ context: ComputeContext, _ precision: Precision) -> [(String, [Float])] {
  let results =
    packedProducts(context, precision) + [17, 700].flatMap { packedAttention(context, precision, tokens: $0) }
    + [AttentionRule.Mask.soft, .hard].flatMap { packedAttention(context, precision, tokens: 300, mask: $0) }
    + convolution(context, precision, usesBLAS: false) + (precision == .bf16 ? halfRows(context) : [])
  return results.map { ("\(precision) packed \($0)", $1) }
}

private func packedProducts(_ context: ComputeContext, _ precision: Precision) -> [(String, [Float])] {
  var draw = Draw(seed: 75)
  let (samples, tokens, inputs, outputs) = (3, 257, 33, 201)
  let rows = samples * tokens
  let (x, dy) = (
    Slice(draw.normal(rows * inputs).stored(precision)), Slice(draw.normal(rows * outputs).stored(precision))
  )
  let (w, b, table) = (draw.normal(outputs * inputs), draw.normal(outputs), draw.normal(tokens * outputs))
  let (residual, gate) = (draw.normal(rows * outputs), draw.normal(samples * outputs))
  let forward = Slice(zeros: ComputeContext.packedElements(depth: inputs, columns: outputs, precision: precision))
  context.packForward(forward.mutableBytes, weight: w.span, inputs: inputs, outputs: outputs, precision: precision)
  let backward = Slice(zeros: ComputeContext.packedElements(depth: outputs, columns: inputs, precision: precision))
  context.packBackward(backward.mutableBytes, weight: w.span, inputs: inputs, outputs: outputs, precision: precision)

  let (y, h, pre) = (Slice(zeros: rows * outputs), Slice(zeros: rows * outputs), Slice(zeros: rows * outputs))
  context.packedLinear(
    output: y.mutableBytes, precision, input: x.bytes, packed: forward.bytes, precision, bias: b.span,
    addingRows: table.span, rows: rows, inputs: inputs, outputs: outputs)
  context.packedLinearGELU(
    output: h.mutableBytes, preactivation: pre.mutableBytes, input: x.bytes, packed: forward.bytes, precision,
    bias: b.span, rows: rows, inputs: inputs, outputs: outputs)
  let (gated, branch) = (Slice(zeros: rows * outputs), Slice(zeros: rows * outputs))
  context.packedLinearGateResidual(
    result: gated.mutableSpan, output: branch.mutableBytes, residual: residual.span, input: x.bytes,
    packed: forward.bytes, precision, bias: b.span, gate: gate.span, gateStride: outputs, samples: samples,
    tokens: tokens, inputs: inputs, outputs: outputs)
  let (dx, dpre, again) = (Slice(zeros: rows * inputs), Slice(zeros: rows * inputs), Slice(zeros: rows * inputs))
  context.packedLinearBackwardInput(
    inputGradient: dx.mutableBytes, .fp32, outputGradient: dy.bytes, packed: backward.bytes, precision, rows: rows,
    inputs: inputs, outputs: outputs)
  context.packedLinearBackwardGELU(
    preactivationGradient: dpre.mutableBytes, activation: again.mutableBytes, preactivation: x.bytes,
    outputGradient: dy.bytes, packed: backward.bytes, precision, rows: rows, inputs: inputs, outputs: outputs)
  let (dw, db) = (Slice(zeros: outputs * inputs), Slice(zeros: outputs))
  let scratch = Slice(
    zeros: ComputeContext.packedGradientScratch(rows: rows, inputs: inputs, outputs: outputs, precision: precision))
  context.packedLinearBackwardWeight(
    weightGradient: dw.mutableSpan, biasGradient: db.mutableSpan, outputGradient: dy.bytes, input: x.bytes,
    scratch: scratch.mutableBytes, precision, rows: rows, inputs: inputs, outputs: outputs)
  let (wide, narrow) = (rows * outputs, rows * inputs)
  return [
    ("linear", y.values(wide, precision)), ("gelu", h.values(wide, precision)),
    ("preactivation", pre.values(wide, precision)), ("gated", gated.array), ("branch", branch.values(wide, precision)),
    ("dx", dx.array), ("dpre", dpre.values(narrow, precision)), ("gelu again", again.values(narrow, precision)),
    ("dW", dw.array), ("db", db.array),
  ]
}

private func packedAttention(
  _ context: ComputeContext, _ precision: Precision, tokens: Int, mask: AttentionRule.Mask = .none
) -> [(String, [Float])] {
  var draw = Draw(seed: 76)
  let (samples, heads, size) = (2, 3, 9)
  let extents = AttentionExtents(samples: samples, tokens: tokens, heads: heads, headSize: size)
  let count = samples * tokens * heads * size
  let (qkv, dout) = (Slice(draw.normal(3 * count).stored(precision)), Slice(draw.normal(count).stored(precision)))
  let (out, lse, dqkv) = (Slice(zeros: count), Slice(zeros: samples * heads * tokens), Slice(zeros: 3 * count))
  let rule = AttentionRule(mask: mask, prefix: 3)
  let scratch = Slice(zeros: context.packedAttentionScratch(extents, rule: rule, backward: true))
  context.packedAttention(
    output: out.mutableBytes, logsumexp: lse.mutableSpan, scratch: scratch.mutableBytes, qkv: qkv.bytes, precision,
    extents, rule: rule, widths: [40, 5].span, prefixKeys: [3, 1].span)
  context.packedAttentionBackward(
    qkvGradient: dqkv.mutableBytes, scratch: scratch.mutableBytes, outputGradient: dout.bytes, output: out.bytes,
    logsumexp: lse.span, qkv: qkv.bytes, precision, extents, rule: rule, widths: [40, 5].span, prefixKeys: [3, 1].span)
  return [
    ("\(mask) attention over \(tokens)", out.values(count, precision)), ("logsumexp over \(tokens)", lse.array),
    ("dqkv over \(tokens)", dqkv.values(3 * count, precision)),
  ]
}

/// LayerNorm with modulate and the gate's gradient, into bf16.
private func halfRows(_ context: ComputeContext) -> [(String, [Float])] {
  var draw = Draw(seed: 77)
  let (samples, tokens, width) = (2, 200, 37)
  let count = samples * tokens * width
  let (x, y) = (draw.normal(count), Slice(draw.normal(count).asHalves))
  let (shift, scale) = (draw.normal(samples * width), draw.normal(samples * width))
  let (out, mean, rstd) = (Slice(zeros: count), Slice(zeros: samples * tokens), Slice(zeros: samples * tokens))
  context.layerNormModulate(
    output: out.mutableBytes, .bf16, mean: mean.mutableSpan, rstd: rstd.mutableSpan, input: x.span,
    shift: shift.span, scale: scale.span, stride: width, epsilon: 1e-6, samples: samples, tokens: tokens, width: width)
  let (dbranch, dgate) = (Slice(zeros: count), Slice(zeros: samples * width))
  let scratch = Slice(zeros: ComputeContext.rowReductionScratch(samples: samples, tokens: tokens, width: width))
  context.gateBackward(
    outputGradient: dbranch.mutableBytes, .bf16, gateGradient: dgate.mutableSpan, gradientStride: width,
    scratch: scratch.mutableSpan, residualGradient: x.span, output: y.bytes, gate: shift.span, stride: width,
    samples: samples, tokens: tokens, width: width)
  let (qkv, table) = (Slice(draw.normal(2 * 150 * 3 * 24).asHalves), Slice(zeros: 147 * 2 * 12))
  rotaryTable(output: table.mutableSpan, rows: 21, columns: 7, headSize: 12)
  context.rotate(
    qkv: qkv.mutableBytes, .bf16, table: table.span, inverse: false, samples: 2, tokens: 150, prefix: 3, heads: 2,
    headSize: 12)
  return [
    ("rotation", qkv.values(2 * 150 * 3 * 24, .bf16)), ("modulate", out.values(count, .bf16)),
    ("dbranch", dbranch.values(count, .bf16)), ("dgate", dgate.array),
  ]
}

private func products(_ context: ComputeContext) -> [(String, [Float])] {
  var draw = Draw(seed: 71)
  let (samples, tokens, inputs, outputs) = (3, 257, 33, 401)
  let rows = samples * tokens
  let (x, w, b) = (draw.normal(rows * inputs), draw.normal(outputs * inputs), draw.normal(outputs))
  let (residual, gate) = (draw.normal(rows * outputs), draw.normal(samples * outputs))
  let table = draw.normal(tokens * outputs)
  let (y, h, pre) = (Slice(zeros: rows * outputs), Slice(zeros: rows * outputs), Slice(zeros: rows * outputs))
  context.linear(
    output: y.mutableSpan, input: x.span, weight: w.span, bias: b.span, addingRows: table.span, rows: rows,
    inputs: inputs, outputs: outputs)
  let plain = Slice(zeros: rows * outputs)
  context.linear(
    output: plain.mutableSpan, input: x.span, weight: w.span, bias: b.span, rows: rows, inputs: inputs,
    outputs: outputs)
  context.linearGELU(
    output: h.mutableSpan, preactivation: pre.mutableSpan, input: x.span, weight: w.span, bias: b.span, rows: rows,
    inputs: inputs, outputs: outputs)
  let (gated, branch) = (Slice(zeros: rows * outputs), Slice(zeros: rows * outputs))
  context.linearGateResidual(
    result: gated.mutableSpan, output: branch.mutableSpan, residual: residual.span, input: x.span, weight: w.span,
    bias: b.span, gate: gate.span, gateStride: outputs, samples: samples, tokens: tokens, inputs: inputs,
    outputs: outputs)
  let (dx, dw, db) = (Slice(zeros: rows * inputs), Slice(zeros: outputs * inputs), Slice(zeros: outputs))
  context.linearBackwardInput(
    inputGradient: dx.mutableSpan, outputGradient: residual.span, weight: w.span, rows: rows, inputs: inputs,
    outputs: outputs)
  context.linearBackwardWeight(
    weightGradient: dw.mutableSpan, biasGradient: db.mutableSpan, outputGradient: residual.span, input: x.span,
    rows: rows, inputs: inputs, outputs: outputs)
  return [
    ("linear", y.array), ("linear without positions", plain.array), ("gelu", h.array), ("preactivation", pre.array),
    ("gated", gated.array), ("branch", branch.array), ("dx", dx.array), ("dW", dw.array), ("db", db.array),
  ]
}

/// So few rows that a product is dot products.
private func smallBatch(_ context: ComputeContext) -> [(String, [Float])] {
  var draw = Draw(seed: 78)
  let (rows, inputs, outputs) = (3, 37, 301)
  let (x, w, b) = (draw.normal(rows * inputs), draw.normal(outputs * inputs), draw.normal(outputs))
  let y = Slice(zeros: rows * outputs)
  context.linear(
    output: y.mutableSpan, input: x.span, weight: w.span, bias: b.span, rows: rows, inputs: inputs, outputs: outputs)
  return [("linear of few rows", y.array)]
}

private func convolution(
  _ context: ComputeContext, _ precision: Precision, usesBLAS: Bool
) -> [(String, [Float])] {
  var draw = Draw(seed: 79)
  let c = Convolution(height: 22, width: 19, channels: 21, outputs: 70)
  let count = c.height * c.width
  let (x, residual) = (draw.normal(count * c.channels), draw.normal(count * c.outputs))
  let (w, b) = (draw.normal(c.outputs * c.channels * 9), draw.normal(c.outputs))
  let (scale, shift) = (draw.normal(c.channels), draw.normal(c.channels))
  let packed = Slice(
    zeros: ComputeContext.packedFilterElements(channels: c.channels, outputs: c.outputs, precision: precision))
  context.packFilters(
    packed.mutableBytes, weight: w.span, channels: c.channels, outputs: c.outputs, precision: precision)
  let y = Slice(zeros: count * c.outputs)
  let scratch = Slice(zeros: context.convolutionScratch(c, precision: precision))
  context.convolution(
    output: y.mutableSpan, input: x.span, packed: packed.bytes, precision, usesBLAS: usesBLAS, bias: b.span,
    scale: scale.span, shift: shift.span, residual: residual.span, scratch: scratch.mutableSpan, c)
  return [(usesBLAS ? "convolution by sgemm" : "convolution", y.array)]
}

private func patchConvolution(_ context: ComputeContext) -> [(String, [Float])] {
  var draw = Draw(seed: 80)
  let c = PatchConvolution(height: 31, width: 29, channels: 3, outputs: 70, stride: 2)
  let (x, w, b) = (
    draw.normal(c.height * c.width * c.channels), draw.normal(c.outputs * 9 * c.channels), draw.normal(c.outputs)
  )
  let packed = Slice(
    zeros: ComputeContext.packedElements(depth: 9 * c.channels, columns: c.outputs, precision: .fp32))
  context.packForward(
    packed.mutableBytes, weight: w.span, inputs: 9 * c.channels, outputs: c.outputs, precision: .fp32)
  let y = Slice(zeros: c.resultHeight * c.resultWidth * c.outputs)
  let scratch = Slice(zeros: context.patchConvolutionScratch(c))
  context.patchConvolution(
    output: y.mutableSpan, input: x.span, weight: packed.bytes, .fp32, usesBLAS: false, bias: b.span,
    scratch: scratch.mutableSpan, c)
  return [("convolution by patches", y.array)]
}

/// Group normalisation's statistics and what they do to an image.
private func channels(_ context: ComputeContext) -> [(String, [Float])] {
  var draw = Draw(seed: 81)
  let (rows, width, channels) = (9, 23, 70)
  let x = draw.normal(rows * width * channels)
  let (mean, m2) = (Slice(zeros: rows * channels), Slice(zeros: rows * channels))
  context.rowMoments(
    mean: mean.mutableSpan, spread: m2.mutableSpan, input: x.span, rows: rows, width: width, channels: channels)
  let (scale, shift) = (draw.normal(channels), draw.normal(channels))
  let y = Slice(zeros: rows * width * channels)
  context.channelAffine(
    output: y.mutableBytes, .fp32, input: x.span, scale: scale.span, shift: shift.span, pixels: rows * width,
    channels: channels)
  return [("channel means", mean.array), ("channel m2", m2.array), ("channel affine", y.array)]
}

private func rows(_ context: ComputeContext) -> [(String, [Float])] {
  var draw = Draw(seed: 72)
  let (samples, tokens, width) = (2, 200, 37)
  let count = samples * tokens * width
  let (x, dy) = (draw.normal(count), draw.normal(count))
  let (shift, scale) = (draw.normal(samples * width), draw.normal(samples * width))
  let (out, mean, rstd) = (Slice(zeros: count), Slice(zeros: samples * tokens), Slice(zeros: samples * tokens))
  context.layerNormModulate(
    output: out.mutableBytes, .fp32, mean: mean.mutableSpan, rstd: rstd.mutableSpan, input: x.span,
    shift: shift.span, scale: scale.span, stride: width, epsilon: 1e-6, samples: samples, tokens: tokens, width: width)
  let again = Slice(zeros: count)
  context.modulateFromStatistics(
    output: again.mutableBytes, .fp32, mean: mean.span, rstd: rstd.span, input: x.span, shift: shift.span,
    scale: scale.span, stride: width, samples: samples, tokens: tokens, width: width)
  let (dx, dshift, dscale) = (Slice(zeros: count), Slice(zeros: samples * width), Slice(zeros: samples * width))
  let scratch = Slice(
    zeros: ComputeContext.rowReductionScratch(samples: samples, tokens: tokens, width: width))
  context.layerNormModulateBackward(
    inputGradient: dx.mutableSpan, shiftGradient: dshift.mutableSpan, scaleGradient: dscale.mutableSpan,
    gradientStride: width, scratch: scratch.mutableSpan, outputGradient: dy.span, mean: mean.span, rstd: rstd.span,
    input: x.span, scale: scale.span, stride: width, samples: samples, tokens: tokens, width: width)
  let (dbranch, dgate) = (Slice(zeros: count), Slice(zeros: samples * width))
  context.gateBackward(
    outputGradient: dbranch.mutableBytes, .fp32, gateGradient: dgate.mutableSpan, gradientStride: width,
    scratch: scratch.mutableSpan, residualGradient: dy.span, output: Slice(x).bytes, gate: shift.span, stride: width,
    samples: samples, tokens: tokens, width: width)
  return [
    ("modulate", out.array), ("mean", mean.array), ("rstd", rstd.array), ("modulate again", again.array),
    ("modulate dx", dx.array), ("dshift", dshift.array), ("dscale", dscale.array), ("dbranch", dbranch.array),
    ("dgate", dgate.array),
  ]
}

private func attentions(_ context: ComputeContext) -> [(String, [Float])] {
  [17, 300].flatMap { tokens -> [(String, [Float])] in
    var draw = Draw(seed: 73)
    let (samples, heads, size) = (2, 3, 8)
    let extents = AttentionExtents(samples: samples, tokens: tokens, heads: heads, headSize: size)
    let count = samples * tokens * heads * size
    let (qkv, dout) = (draw.normal(3 * count), draw.normal(count))
    let (out, lse, dqkv) = (Slice(zeros: count), Slice(zeros: samples * heads * tokens), Slice(zeros: 3 * count))
    let scratch = Slice(zeros: context.attentionScratch(extents, backward: true))
    context.attention(
      output: out.mutableSpan, logsumexp: lse.mutableSpan, scratch: scratch.mutableSpan, qkv: qkv.span,
      extents)
    context.attentionBackward(
      qkvGradient: dqkv.mutableSpan, scratch: scratch.mutableSpan, outputGradient: dout.span, output: out.span,
      logsumexp: lse.span, qkv: qkv.span, extents)
    return [
      ("attention over \(tokens)", out.array), ("logsumexp over \(tokens)", lse.array),
      ("dqkv over \(tokens)", dqkv.array),
    ]
  }
}

private func flatLoops(_ context: ComputeContext) -> [(String, [Float])] {
  var draw = Draw(seed: 74)
  let count = 2 * 65_536 + 5
  let (x, g) = (draw.normal(count), draw.normal(count))
  let (h, dpre) = (Slice(zeros: count), Slice(g))
  context.geluBackward(output: h.mutableSpan, gradient: dpre.mutableSpan, preactivation: x.span)
  let (y, dx) = (Slice(zeros: count), Slice(zeros: count))
  context.silu(output: y.mutableSpan, input: x.span)
  context.siluBackward(inputGradient: dx.mutableSpan, outputGradient: g.span, input: x.span)
  let (w, m, v) = (Slice(x), Slice(zeros: count), Slice(zeros: count))
  context.adamW(
    weights: w.mutableSpan, firstMoment: m.mutableSpan, secondMoment: v.mutableSpan, gradient: g.span,
    gradientScale: 1, learningRate: 1e-3, step: 1, constants: AdamW())
  let average = Slice(g)
  context.exponentialMovingAverage(average.mutableSpan, weights: x.span, decay: 0.9)
  let sum = Slice(g)
  context.add(x.span, to: sum.mutableSpan)
  let total = Slice(zeros: count / 2)
  context.addSum(into: total.mutableSpan, of: x.span, terms: 2, stride: count / 2, count: count / 2)
  var scratch = [Double](repeating: 0, count: ComputeContext.normScratch(count))
  let pattern = context.sumOfSquares(x.span, scratch: scratch.mutableSpan).bitPattern
  return [
    ("gelu again", h.array), ("gelu gradient", dpre.array), ("silu", y.array), ("silu gradient", dx.array),
    ("AdamW w", w.array), ("AdamW m", m.array), ("AdamW v", v.array), ("average", average.array),
    ("sum", sum.array), ("total", total.array),
    (
      "sum of squares",
      [
        Float(bitPattern: UInt32(truncatingIfNeeded: pattern >> 32)),
        Float(bitPattern: UInt32(truncatingIfNeeded: pattern)),
      ]
    ),
  ]
}
