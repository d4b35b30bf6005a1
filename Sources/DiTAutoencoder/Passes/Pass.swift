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
  private var format: Format { settings.format }

  mutating func featureMap(_ height: Int, _ width: Int, _ channels: Int) -> FeatureMap {
    FeatureMap(memory: memory.allocate(height * width * channels), height: height, width: width, channels: channels)
  }

  mutating func free(_ plane: FeatureMap) { memory.free(plane.memory) }

  private func slice(_ plane: FeatureMap) -> MutableFloatSlice { memory.slice(plane.memory) }

  // MARK: Group normalization

  /// Scale and shift of a group normalization, (2, channels).
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
      mean: all[rows.lowerBound * c..<rows.upperBound * c],
      spread: all[half + rows.lowerBound * c..<half + rows.upperBound * c], input: input.reading,
      rows: rows.count, width: x.width, channels: c)
  }

  /// Gives the moments back.
  private mutating func affine(_ x: FeatureMap, _ moments: Range<Int>, _ norm: NormLayer) -> NormScaleShift {
    let result = NormScaleShift(memory: memory.allocate(2 * x.channels), channels: x.channels)
    if !memory.isPlan {
      let (out, all, half) = (memory.slice(result.memory), memory.slice(moments).reading, x.height * x.channels)
      context.groupNormalization(
        scale: out[0..<x.channels], shift: out[x.channels..<2 * x.channels], mean: all[0..<half],
        spread: all[half..<2 * half], weight: norm.weight, bias: norm.bias, epsilon: AutoencoderConfiguration.epsilon,
        rows: x.height, width: x.width, channels: x.channels, groups: groups)
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
    let scratch = memory.allocate(context.convolutionScratch(extents, format: format))
    if !memory.isPlan {
      let norm = affine.map { memory.slice($0.memory).reading } ?? .empty
      context.convolution(
        output: slice(out), input: slice(x).reading, packed: layer.filters(settings), format, usesBLAS: usesBLAS,
        bias: layer.bias, scale: norm[0..<norm.count / 2], shift: norm[norm.count / 2..<norm.count],
        residual: residual.map { slice($0).reading } ?? .empty, scratch: memory.slice(scratch), extents, rows: rows)
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
      context.patchConvolution(
        output: slice(out), input: slice(x).reading, weight: layer.patchFilters(settings), bias: layer.bias,
        scratch: memory.slice(scratch), c)
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
    context.product(
      into: MutableMatrix(output, rows: count, columns: layer.outputs),
      Matrix(input.reading, rows: count, columns: layer.inputs), layer.weight(settings, .fp32), bias: layer.bias)
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
    let method: AttentionMethod = settings.isPacked ? .packed : .blas
    let affine = affine(x, layer.norm)
    let normal = memory.allocate(format.floats(holding: x.pixels * x.channels))
    let qkv = memory.allocate(format.floats(holding: 3 * x.pixels * x.channels))
    let attended = memory.allocate(format.floats(holding: x.pixels * x.channels))
    let logsumexp = memory.allocate(x.pixels)
    let scratch = memory.allocate(context.attentionScratch(extents, method: method, backward: false))
    if !memory.isPlan {
      let norm = memory.slice(affine.memory).reading
      let h = matrix(normal, x.pixels, x.channels)
      context.channelAffine(
        output: h, input: slice(x).reading, scale: norm[0..<x.channels], shift: norm[x.channels..<2 * x.channels])
      let projected = matrix(qkv, x.pixels, 3 * x.channels)
      context.product(into: projected, h.reading, layer.qkv.weight(settings, format), bias: layer.qkv.bias)
      let out = matrix(attended, x.pixels, x.channels)
      context.attention(
        output: out, logsumexp: memory.slice(logsumexp),
        AttentionOperands(qkv: projected.reading, extents, scratch: memory.slice(scratch), method: method))
      context.product(
        into: MutableMatrix(slice(x), rows: x.pixels, columns: x.channels), out.reading,
        layer.out.weight(settings, format), bias: layer.out.bias,
        epilogue: .gateResidual(
          residual: nil, gate: Matrix(layer.ones, rows: 1, columns: x.channels), tokens: x.pixels, sums: .scratch(h)))
    }
    for range in [scratch, logsumexp, attended, qkv, normal, affine.memory] { memory.free(range) }
  }

  /// A factor of a product.
  private func matrix(_ range: Range<Int>, _ rows: Int, _ columns: Int) -> MutableMatrix {
    MutableMatrix(memory.slice(range), rows: rows, columns: columns, format: format)
  }

  mutating func middle(_ x: FeatureMap, _ layer: MiddleLayer) -> FeatureMap {
    let y = resnet(x, layer.first)
    if let attention = layer.attention { attend(y, attention) }
    return resnet(y, layer.second)
  }

  // MARK: Upsampling

  /// Twice the size, nearest neighbor, and a convolution. Gives x back.
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
    let tile = ComputeContext.convolutionTile(format)
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
      for (index, resnet) in block.resnets.enumerated() {
        if let resize = pending { x = upsampledResnet(x, resize, resnet) } else { x = self.resnet(x, resnet) }
        pending = nil
        if !block.attentions.isEmpty { attend(x, block.attentions[index]) }
      }
      pending = block.resize
    }
    return finish(x, layers.normOut, layers.convOut)
  }

  /// An image → mean ‖ logvar, not clamped.
  mutating func encode(_ layers: EncoderLayers, _ image: FeatureMap) -> FeatureMap {
    var x = convolveFewChannels(image, layers.convIn)
    for block in layers.blocks {
      for (index, resnet) in block.resnets.enumerated() {
        x = self.resnet(x, resnet)
        if !block.attentions.isEmpty { attend(x, block.attentions[index]) }
      }
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
