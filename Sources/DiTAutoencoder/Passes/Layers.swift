import DiTKernels
import DiTTensor
import Synchronization

// The layers of an autoencoder: their weights as a file holds them, and packed for the kernels when first used.

/// Hands out a tensor by its diffusers name and shape.
typealias WeightReader = (_ name: String, _ shape: [Int]) throws -> FloatSlice

/// γ and β of a group normalization.
struct NormLayer: Sendable {
  let weight, bias: FloatSlice

  init(_ name: String, channels: Int, _ read: WeightReader) throws {
    weight = try read("\(name).weight", [channels])
    bias = try read("\(name).bias", [channels])
  }
}

/// What a layer's weights were packed into. Made once and kept, or made for one use, where a large image needs the memory
/// more than the time.
final class PackedStore<Packed: Sendable>: Sendable {
  private let kept = Mutex<Packed?>(nil)

  func get(keeping: Bool, make: () -> Packed) -> Packed {
    guard keeping else { return kept.withLock { $0 } ?? make() }
    return kept.withLock { kept in
      if let kept { return kept }
      let made = make()
      kept = made
      return made
    }
  }
}

/// How layers compute, and whether their packed weights are kept.
struct ComputeSettings: Sendable {
  let context: ComputeContext
  let numerics: Numerics
  var keepsPacked = true

  var format: Format { numerics.precision.format }
  var isPacked: Bool { numerics.isPacked(on: context) }

  /// A right factor as it is where OpenBLAS multiplies, else in panels.
  func factor(_ matrix: Matrix, as format: Format) -> Matrix {
    guard isPacked else { return matrix }
    let memory = MutableFloatSlice(
      uninitialized: ComputeContext.packedElements(depth: matrix.rows, columns: matrix.columns, format: format))
    return context.pack(matrix, into: memory, as: format)
  }
}

/// A 3 × 3 convolution.
struct ConvolutionLayer: Sendable {
  let channels, outputs: Int
  let weight, bias: FloatSlice
  private let winograd = PackedStore<FloatSlice>()
  private let patches = PackedStore<Matrix>()

  init(_ name: String, _ channels: Int, _ outputs: Int, _ read: WeightReader) throws {
    self.channels = channels
    self.outputs = outputs
    weight = try read("\(name).weight", [outputs, channels, 3, 3])
    bias = try read("\(name).bias", [outputs])
  }

  /// The filters for Winograd's products.
  func filters(_ c: ComputeSettings) -> FloatSlice {
    winograd.get(keeping: c.keepsPacked) {
      let packed = MutableFloatSlice(
        uninitialized: ComputeContext.packedFilterElements(channels: channels, outputs: outputs, format: c.format))
      c.context.packFilters(packed, weight: weight, channels: channels, outputs: outputs, format: c.format)
      weight.releasePages()
      return packed.reading
    }
  }

  /// The filters for products over patches, as the right factor.
  func patchFilters(_ c: ComputeSettings) -> Matrix {
    patches.get(keeping: c.keepsPacked) {
      let ordered = MutableFloatSlice(zeros: outputs * channels * 9)
      ComputeContext.patchOrder(ordered, weight: weight, channels: channels, outputs: outputs)
      weight.releasePages()
      return c.factor(Matrix(ordered.reading, rows: outputs, columns: 9 * channels).transposed, as: c.format)
    }
  }
}

/// A 1 × 1 convolution, or a linear layer: y = x Wᵀ + b.
struct PointwiseConvolution: Sendable {
  let inputs, outputs: Int
  private let weights, biases: [FloatSlice]
  private let store = PackedStore<Matrix>()

  /// - Parameter names: layers of one input, whose outputs stand one after another.
  init(_ names: [String], inputs: Int, outputs each: Int, isConvolution: Bool, _ read: WeightReader) throws {
    self.inputs = inputs
    outputs = names.count * each
    let shape = isConvolution ? [each, inputs, 1, 1] : [each, inputs]
    weights = try names.map { try read("\($0).weight", shape) }
    biases = try names.map { try read("\($0).bias", [each]) }
  }

  private func joined(_ slices: [FloatSlice]) -> FloatSlice {
    if slices.count == 1 { return slices[0] }
    let all = MutableFloatSlice(zeros: slices.reduce(0) { $0 + $1.count })
    var start = 0
    for slice in slices {
      all[start..<start + slice.count].copy(from: slice)
      start += slice.count
    }
    return all.reading
  }

  var bias: FloatSlice { joined(biases) }

  /// Wᵀ as the products read it.
  func weight(_ c: ComputeSettings, _ format: Format) -> Matrix {
    func transposed(_ w: FloatSlice) -> Matrix { Matrix(w, rows: outputs, columns: inputs).transposed }
    if !c.isPacked && weights.count == 1 { return transposed(weights[0]) }
    return store.get(keeping: c.keepsPacked) {
      let factor = c.factor(transposed(joined(weights)), as: format)
      if c.isPacked { for weight in weights { weight.releasePages() } }
      return factor
    }
  }
}

/// x + conv2(SiLU(norm2(conv1(SiLU(norm1(x)))))), x through a 1 × 1 convolution where the channels change.
struct ResnetLayer: Sendable {
  let norm1, norm2: NormLayer
  let conv1, conv2: ConvolutionLayer
  let shortcut: PointwiseConvolution?

  init(_ name: String, _ inputs: Int, _ outputs: Int, _ read: WeightReader) throws {
    norm1 = try NormLayer("\(name).norm1", channels: inputs, read)
    conv1 = try ConvolutionLayer("\(name).conv1", inputs, outputs, read)
    norm2 = try NormLayer("\(name).norm2", channels: outputs, read)
    conv2 = try ConvolutionLayer("\(name).conv2", outputs, outputs, read)
    shortcut =
      inputs == outputs
      ? nil
      : try PointwiseConvolution(
        ["\(name).conv_shortcut"], inputs: inputs, outputs: outputs, isConvolution: true, read)
  }
}

/// x + W_o attention(norm(x)), one head as wide as the image has channels.
struct AttentionLayer: Sendable {
  let norm: NormLayer
  let qkv, out: PointwiseConvolution
  /// The gate of the kernel that adds the residual.
  let ones: FloatSlice

  init(_ name: String, channels: Int, _ read: WeightReader) throws {
    norm = try NormLayer("\(name).group_norm", channels: channels, read)
    qkv = try PointwiseConvolution(
      ["to_q", "to_k", "to_v"].map { "\(name).\($0)" }, inputs: channels, outputs: channels, isConvolution: false, read)
    out = try PointwiseConvolution(
      ["\(name).to_out.0"], inputs: channels, outputs: channels, isConvolution: false, read)
    ones = FloatSlice([Float](repeating: 1, count: channels))
  }
}

/// Resnet, attention where there is one, resnet.
struct MiddleLayer: Sendable {
  let first, second: ResnetLayer
  let attention: AttentionLayer?

  init(_ name: String, channels: Int, hasAttention: Bool, _ read: WeightReader) throws {
    first = try ResnetLayer("\(name).resnets.0", channels, channels, read)
    attention = hasAttention ? try AttentionLayer("\(name).attentions.0", channels: channels, read) : nil
    second = try ResnetLayer("\(name).resnets.1", channels, channels, read)
  }
}

/// Resnets, each followed by attention where there is any, and, in all blocks but the last, a change of size.
struct BlockLayer: Sendable {
  let resnets: [ResnetLayer]
  /// One for each resnet, or none.
  let attentions: [AttentionLayer]
  let resize: ConvolutionLayer?

  init(
    _ name: String, _ inputs: Int, _ outputs: Int, count: Int, hasAttention: Bool, resize: String?,
    _ read: WeightReader
  ) throws {
    resnets = try (0..<count).map {
      try ResnetLayer("\(name).resnets.\($0)", $0 == 0 ? inputs : outputs, outputs, read)
    }
    attentions =
      hasAttention
      ? try (0..<count).map { try AttentionLayer("\(name).attentions.\($0)", channels: outputs, read) } : []
    self.resize = try resize.map { try ConvolutionLayer("\(name).\($0).0.conv", outputs, outputs, read) }
  }
}

/// Images → mean and logvar.
struct EncoderLayers: Sendable {
  let convIn, convOut: ConvolutionLayer
  let blocks: [BlockLayer]
  let middle: MiddleLayer
  let normOut: NormLayer
  let quant: PointwiseConvolution?

  init(_ c: AutoencoderConfiguration, _ read: WeightReader) throws {
    let channels = c.blockChannels
    let last = channels[channels.count - 1]
    convIn = try ConvolutionLayer("encoder.conv_in", c.imageChannels, channels[0], read)
    blocks = try channels.indices.map { i in
      try BlockLayer(
        "encoder.down_blocks.\(i)", channels[max(i - 1, 0)], channels[i], count: c.layersPerBlock,
        hasAttention: c.encoderAttention.contains(true) && c.encoderAttention[i],
        resize: i < channels.count - 1 ? "downsamplers" : nil, read)
    }
    middle = try MiddleLayer(
      "encoder.mid_block", channels: last, hasAttention: c.hasMiddleAttention, read)
    normOut = try NormLayer("encoder.conv_norm_out", channels: last, read)
    convOut = try ConvolutionLayer("encoder.conv_out", last, 2 * c.latentChannels, read)
    quant =
      c.hasQuantConvolution
      ? try PointwiseConvolution(
        ["quant_conv"], inputs: 2 * c.latentChannels, outputs: 2 * c.latentChannels, isConvolution: true, read) : nil
  }
}

/// Latents → images.
struct DecoderLayers: Sendable {
  let postQuant: PointwiseConvolution?
  let convIn, convOut: ConvolutionLayer
  let middle: MiddleLayer
  let blocks: [BlockLayer]
  let normOut: NormLayer

  init(_ c: AutoencoderConfiguration, _ read: WeightReader) throws {
    let channels = Array(c.blockChannels.reversed())
    postQuant =
      c.hasPostQuantConvolution
      ? try PointwiseConvolution(
        ["post_quant_conv"], inputs: c.latentChannels, outputs: c.latentChannels, isConvolution: true, read) : nil
    convIn = try ConvolutionLayer("decoder.conv_in", c.latentChannels, channels[0], read)
    middle = try MiddleLayer(
      "decoder.mid_block", channels: channels[0], hasAttention: c.hasMiddleAttention, read)
    blocks = try channels.indices.map { i in
      try BlockLayer(
        "decoder.up_blocks.\(i)", channels[max(i - 1, 0)], channels[i], count: c.layersPerBlock + 1,
        hasAttention: c.decoderAttention.contains(true) && c.decoderAttention[channels.count - 1 - i],
        resize: i < channels.count - 1 ? "upsamplers" : nil, read)
    }
    let last = channels[channels.count - 1]
    normOut = try NormLayer("decoder.conv_norm_out", channels: last, read)
    convOut = try ConvolutionLayer("decoder.conv_out", last, c.imageChannels, read)
  }
}
