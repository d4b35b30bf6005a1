import DiTKernels
import DiTTensor

// The operations of an encoder's or a decoder's pass over one image. Each runs twice: as a plan, which only allocates
// and frees ranges, and then over the memory that the plan asks for.

struct Pass {
  let settings: ComputeSettings
  let groups: Int
  var memory: PassMemory
  /// An upsampled image of more elements is never held whole; see ``upsampledResnet``.
  let wholeImageLimit: Int

  var context: ComputeContext { settings.context }
  private var usesBLAS: Bool { !settings.isPacked }
  private var precision: Precision { settings.precision }

  mutating func featureMap(_ height: Int, _ width: Int, _ channels: Int) -> FeatureMap {
    FeatureMap(memory: memory.allocate(height * width * channels), height: height, width: width, channels: channels)
  }

  mutating func free(_ plane: FeatureMap) { memory.free(plane.memory) }

  private func slice(_ plane: FeatureMap) -> Slice { memory.slice(plane.memory) }

  // MARK: Group normalisation

  /// Scale and shift of a group normalisation, (2, channels).
  struct NormScaleShift {
    let memory: Range<Int>
    let channels: Int
  }

  /// What `norm` makes of x.
  mutating func affine(_ x: FeatureMap, _ norm: NormLayer) -> NormScaleShift {
    let moments = memory.allocate(2 * x.height * x.channels)
    if !memory.isPlan { rowMoments(x, 0..<x.height, of: x, moments) }
    return affine(x, moments, norm)
  }

  /// Means and spreads of rows `rows` of an image as tall as `whole`; x holds just these.
  private func rowMoments(
    _ x: FeatureMap, _ rows: Range<Int>, of whole: FeatureMap, _ moments: Range<Int>, skipping: Int = 0
  ) {
    let (all, c, half) = (memory.slice(moments), x.channels, whole.height * x.channels)
    let input = slice(x)[skipping * x.width * c..<(skipping + rows.count) * x.width * c]
    context.rowMoments(
      mean: all[rows.lowerBound * c..<rows.upperBound * c].mutableSpan,
      spread: all[half + rows.lowerBound * c..<half + rows.upperBound * c].mutableSpan, input: input.span,
      rows: rows.count, width: x.width, channels: c)
  }

  /// Gives the moments back.
  private mutating func affine(_ x: FeatureMap, _ moments: Range<Int>, _ norm: NormLayer) -> NormScaleShift {
    let result = NormScaleShift(memory: memory.allocate(2 * x.channels), channels: x.channels)
    if !memory.isPlan {
      let (out, all, half) = (memory.slice(result.memory), memory.slice(moments), x.height * x.channels)
      let (scales, shifts) = (out[0..<x.channels], out[x.channels..<2 * x.channels])
      var scale = scales.mutableSpan
      var shift = shifts.mutableSpan
      context.groupNormalisation(
        scale: &scale, shift: &shift, mean: all[0..<half].span, spread: all[half..<2 * half].span,
        weight: norm.weight.span, bias: norm.bias.span, epsilon: AutoencoderConfiguration.epsilon, rows: x.height,
        width: x.width, channels: x.channels, groups: groups)
    }
    memory.free(moments)
    return result
  }

  // MARK: Convolutions

  /// out = layer(x), of SiLU(norm(x)) with an `affine`, plus a residual: all of the image, or the rows of a part.
  mutating func convolve(
    _ out: FeatureMap, _ x: FeatureMap, _ layer: ConvolutionLayer, _ affine: NormScaleShift? = nil,
    residual: FeatureMap? = nil,
    isUpsampling: Bool = false, height: Int? = nil, rows: ConvolutionRows? = nil
  ) {
    let extents = Convolution(
      height: height ?? out.height, width: out.width, channels: layer.channels, outputs: layer.outputs,
      isUpsampling: isUpsampling)
    let scratch = memory.allocate(context.convolutionScratch(extents, precision: precision))
    if !memory.isPlan {
      let norm = affine.map { memory.slice($0.memory) } ?? layer.bias[0..<0]
      let (scale, shift) = (norm[0..<norm.count / 2], norm[norm.count / 2..<norm.count])
      let added = residual.map { slice($0) } ?? layer.bias[0..<0]
      let filters = layer.filters(settings)
      context.convolution(
        output: slice(out).mutableSpan, input: slice(x).span, packed: filters.bytes, precision, usesBLAS: usesBLAS,
        bias: layer.bias.span, scale: scale.span, shift: shift.span, residual: added.span,
        scratch: memory.slice(scratch).mutableSpan, extents, rows: rows)
    }
    memory.free(scratch)
  }

  /// A convolution of stride 1 without anything before it, over few channels.
  mutating func convolveFewChannels(_ x: FeatureMap, _ layer: ConvolutionLayer) -> FeatureMap {
    convolvePatches(
      x, layer, PatchConvolution(height: x.height, width: x.width, channels: layer.channels, outputs: layer.outputs))
  }

  /// Half the size: zeros right and below, then stride 2. Gives x back.
  mutating func downsample(_ x: FeatureMap, _ layer: ConvolutionLayer) -> FeatureMap {
    convolvePatches(
      x, layer,
      PatchConvolution(
        height: x.height, width: x.width, channels: layer.channels, outputs: layer.outputs, stride: 2, before: 0,
        after: 1))
  }

  private mutating func convolvePatches(_ x: FeatureMap, _ layer: ConvolutionLayer, _ c: PatchConvolution) -> FeatureMap
  {
    let out = featureMap(c.resultHeight, c.resultWidth, c.outputs)
    let scratch = memory.allocate(context.patchConvolutionScratch(c))
    if !memory.isPlan {
      let filters = layer.patchFilters(settings)
      context.patchConvolution(
        output: slice(out).mutableSpan, input: slice(x).span, weight: filters.bytes, precision, usesBLAS: usesBLAS,
        bias: layer.bias.span, scratch: memory.slice(scratch).mutableSpan, c)
    }
    memory.free(scratch)
    free(x)
    return out
  }

  // MARK: Products over pixels

  /// out's first rows = layer(x's from row `first` on), in float32.
  func points(
    _ out: FeatureMap, _ x: FeatureMap, _ layer: PointwiseConvolution, outRow: Int = 0, first: Int = 0, rows: Int? = nil
  ) {
    guard !memory.isPlan else { return }
    let (rows, width) = (rows ?? x.height, x.width)
    let count = rows * width
    let input = slice(x)[first * width * layer.inputs..<(first + rows) * width * layer.inputs]
    let output = slice(out)[outRow * width * layer.outputs..<(outRow + rows) * width * layer.outputs]
    let (weight, bias) = (layer.weight(settings, .fp32), layer.bias)
    if settings.isPacked {
      context.packedLinear(
        output: output.mutableBytes, .fp32, input: input.bytes, packed: weight.bytes, .fp32, bias: bias.span,
        addingRows: bias[0..<0].span, rows: count, inputs: layer.inputs, outputs: layer.outputs)
    } else {
      context.linear(
        output: output.mutableSpan, input: input.span, weight: weight.span, bias: bias.span, rows: count,
        inputs: layer.inputs, outputs: layer.outputs)
    }
  }

  // MARK: Blocks

  /// Gives x back, or writes the result over it.
  mutating func resnet(_ x: FeatureMap, _ layer: ResnetLayer) -> FeatureMap {
    let before = affine(x, layer.norm1)
    let hidden = featureMap(x.height, x.width, layer.conv1.outputs)
    convolve(hidden, x, layer.conv1, before)
    memory.free(before.memory)
    var result = x
    if let shortcut = layer.shortcut {
      result = featureMap(x.height, x.width, shortcut.outputs)
      points(result, x, shortcut)
      free(x)
    }
    return finish(result, hidden, layer)
  }

  /// result += conv2(SiLU(norm2(hidden))); gives `hidden` back.
  private mutating func finish(_ result: FeatureMap, _ hidden: FeatureMap, _ layer: ResnetLayer) -> FeatureMap {
    let between = affine(hidden, layer.norm2)
    convolve(result, hidden, layer.conv2, between, residual: result)
    memory.free(between.memory)
    free(hidden)
    return result
  }

  /// x += W_o attention(norm(x)), over blocks of queries and keys: nothing of pixels × pixels exists.
  mutating func attend(_ x: FeatureMap, _ layer: AttentionLayer) {
    let extents = AttentionExtents(samples: 1, tokens: x.pixels, heads: 1, headSize: x.channels)
    let format = settings.isPacked ? precision : .fp32
    let size = x.pixels * x.channels
    let affine = affine(x, layer.norm)
    let normal = memory.allocate(elements(size, format))
    let qkv = memory.allocate(elements(3 * size, format))
    let attended = memory.allocate(elements(size, format))
    let logsumexp = memory.allocate(x.pixels)
    let scratch = memory.allocate(
      settings.isPacked
        ? context.packedAttentionScratch(extents, backward: false) : context.attentionScratch(extents, backward: false))
    if !memory.isPlan {
      let norm = memory.slice(affine.memory)
      context.channelAffine(
        output: memory.slice(normal).mutableBytes, format, input: slice(x).span, scale: norm[0..<x.channels].span,
        shift: norm[x.channels..<2 * x.channels].span, pixels: x.pixels, channels: x.channels)
      run(
        x, layer, extents, format, normal: memory.slice(normal), qkv: memory.slice(qkv),
        attended: memory.slice(attended), logsumexp: memory.slice(logsumexp), scratch: memory.slice(scratch))
    }
    for range in [scratch, logsumexp, attended, qkv, normal, affine.memory] { memory.free(range) }
  }

  private func run(
    _ x: FeatureMap, _ layer: AttentionLayer, _ extents: AttentionExtents, _ format: Precision, normal: Slice,
    qkv: Slice,
    attended: Slice, logsumexp: Slice, scratch: Slice
  ) {
    let (c, rows, x) = (x.channels, x.pixels, slice(x))
    let (projection, output) = (layer.qkv.weight(settings, format), layer.out.weight(settings, format))
    let (qkvBias, outBias) = (layer.qkv.bias, layer.out.bias)
    if settings.isPacked {
      context.packedLinear(
        output: qkv.mutableBytes, format, input: normal.bytes, packed: projection.bytes, format, bias: qkvBias.span,
        addingRows: qkvBias[0..<0].span, rows: rows, inputs: c, outputs: 3 * c)
      context.packedAttention(
        output: attended.mutableBytes, logsumexp: logsumexp.mutableSpan, scratch: scratch.mutableBytes, qkv: qkv.bytes,
        format, extents)
      context.packedLinearGateResidual(
        result: x.mutableSpan, output: x[0..<0].mutableBytes, residual: x.span, input: attended.bytes,
        packed: output.bytes, format, bias: outBias.span, gate: layer.ones.span, gateStride: 0, samples: 1,
        tokens: rows, inputs: c, outputs: c)
    } else {
      context.linear(
        output: qkv.mutableSpan, input: normal.span, weight: projection.span, bias: qkvBias.span, rows: rows, inputs: c,
        outputs: 3 * c)
      context.attention(
        output: attended.mutableSpan, logsumexp: logsumexp.mutableSpan, scratch: scratch.mutableSpan, qkv: qkv.span,
        extents)
      context.linearGateResidual(
        result: x.mutableSpan, output: normal.mutableSpan, residual: x.span, input: attended.span, weight: output.span,
        bias: outBias.span, gate: layer.ones.span, gateStride: 0, samples: 1, tokens: rows, inputs: c, outputs: c)
    }
  }

  private func elements(_ count: Int, _ format: Precision) -> Int { format.floats(holding: count) }

  mutating func middle(_ x: FeatureMap, _ layer: MiddleLayer) -> FeatureMap {
    let y = resnet(x, layer.first)
    if let attention = layer.attention { attend(y, attention) }
    return resnet(y, layer.second)
  }

  // MARK: Upsampling

  /// Twice the size, nearest neighbour, and a convolution. Gives x back.
  mutating func upsample(_ x: FeatureMap, _ layer: ConvolutionLayer) -> FeatureMap {
    let out = featureMap(2 * x.height, 2 * x.width, layer.outputs)
    convolve(out, x, layer, isUpsampling: true)
    free(x)
    return out
  }

  /// Whether the result of ``upsample(_:_:)`` is too large to be held whole before a resnet that takes its channels
  /// elsewhere.
  func isBanded(_ x: FeatureMap, _ layer: ConvolutionLayer, _ resnet: ResnetLayer) -> Bool {
    resnet.shortcut != nil && 4 * x.pixels * layer.outputs > wholeImageLimit
  }

  /// ``upsample(_:_:)`` and ``resnet(_:_:)``, the upsampled image computed twice in bands of rows: once for its group
  /// statistics, once for the resnet's first convolution and its shortcut. The statistics are of the whole image and each
  /// row's results do not depend on the bands: it is the same arithmetic, without a seam.
  mutating func upsampledResnet(_ x: FeatureMap, _ layer: ConvolutionLayer, _ resnet: ResnetLayer) -> FeatureMap {
    guard isBanded(x, layer, resnet), let shortcut = resnet.shortcut else {
      return self.resnet(upsample(x, layer), resnet)
    }
    let tile = ComputeContext.convolutionTile(precision)
    let whole = FeatureMap(memory: 0..<0, height: 2 * x.height, width: 2 * x.width, channels: layer.outputs)
    let moments = memory.allocate(2 * whole.height * whole.channels)
    let result = featureMap(whole.height, whole.width, shortcut.outputs)
    let hidden = featureMap(whole.height, whole.width, shortcut.outputs)
    // At least four tiles high, so that the rows computed twice at a band's edges are few.
    let rows = max(8, wholeImageLimit / 8 / (whole.width * whole.channels) / (2 * tile)) * tile
    let band = featureMap(min(whole.height, rows + 2 * tile), whole.width, whole.channels)
    let bands = stride(from: 0, to: whole.height, by: rows).map { $0..<min($0 + rows, whole.height) }
    for part in bands {
      convolve(
        band, x, layer, isUpsampling: true, height: whole.height,
        rows: ConvolutionRows(part, firstOutput: part.lowerBound))
      if !memory.isPlan { rowMoments(band, part, of: whole, moments) }
    }
    let before = affine(whole, moments, resnet.norm1)
    for part in bands {
      let around = max(0, part.lowerBound - tile)..<min(whole.height, part.upperBound + tile)
      convolve(
        band, x, layer, isUpsampling: true, height: whole.height,
        rows: ConvolutionRows(around, firstOutput: around.lowerBound))
      points(
        result, band, shortcut, outRow: part.lowerBound, first: part.lowerBound - around.lowerBound, rows: part.count)
      convolve(hidden, band, resnet.conv1, before, rows: ConvolutionRows(part, firstInput: around.lowerBound))
    }
    memory.free(before.memory)
    free(band)
    free(x)
    return finish(result, hidden, resnet)
  }

  // MARK: The whole

  /// Latents as the decoder takes them, not scaled → an image.
  mutating func decode(_ layers: DecoderLayers, _ latent: FeatureMap) -> FeatureMap {
    var first = latent
    if let postQuant = layers.postQuant {
      first = featureMap(latent.height, latent.width, latent.channels)
      points(first, latent, postQuant)
      free(latent)
    }
    var x = middle(convolveFewChannels(first, layers.convIn), layers.middle)
    var pending: ConvolutionLayer?
    for block in layers.blocks {
      for resnet in block.resnets {
        if let resize = pending { x = upsampledResnet(x, resize, resnet) } else { x = self.resnet(x, resnet) }
        pending = nil
      }
      pending = block.resize
    }
    return finish(x, layers.normOut, layers.convOut)
  }

  /// An image → mean ‖ logvar, not clamped.
  mutating func encode(_ layers: EncoderLayers, _ image: FeatureMap) -> FeatureMap {
    var x = convolveFewChannels(image, layers.convIn)
    for block in layers.blocks {
      for resnet in block.resnets { x = self.resnet(x, resnet) }
      if let resize = block.resize { x = downsample(x, resize) }
    }
    let moments = finish(middle(x, layers.middle), layers.normOut, layers.convOut)
    guard let quant = layers.quant else { return moments }
    let out = featureMap(moments.height, moments.width, moments.channels)
    points(out, moments, quant)
    free(moments)
    return out
  }

  /// conv(SiLU(norm(x))); gives x back.
  private mutating func finish(_ x: FeatureMap, _ norm: NormLayer, _ layer: ConvolutionLayer) -> FeatureMap {
    let affine = affine(x, norm)
    let out = featureMap(x.height, x.width, layer.outputs)
    convolve(out, x, layer, affine)
    memory.free(affine.memory)
    free(x)
    return out
  }
}
