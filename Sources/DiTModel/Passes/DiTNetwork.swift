import DiTKernels
import DiTTensor

/// The Diffusion Transformer: what it computes, over weights it only reads.
///
/// Several threads may call one network at once, each with a workspace of its own.
public struct DiTNetwork: Sendable {
  public let configuration: DiTConfiguration
  public let weights: Weights
  public let context: ComputeContext
  public let numerics: Numerics
  /// Whether products run over packed weights.
  public var isPacked: Bool { numerics.isPacked(on: context) }
  /// What products read that is not packed once: weights that a file keeps in another form are made once for all of them.
  private let held: [FloatSlice]
  /// The packed weights, when they are packed once.
  private let store: PackedWeightStore?
  /// What attention reads of the noise schedule.
  let noise: AttentionNoise?
  package var attentionNoise: AttentionNoise? { noise }
  /// What q and k of the image's tokens turn by; nil without rotary positions.
  let rotary: FloatSlice?

  /// - Parameters:
  ///   - configuration: the parts and sizes.
  ///   - weights: all tensors of the network.
  ///   - context: where to run.
  ///   - numerics: the format of the operands and the matrix-multiplication backend. Sums, the residual stream, normalization, softmax, the
  ///     conditioning and the first and last layer are float32 in every format.
  ///   - weightsAreFixed: whether `forward` may pack the weights once, at its first call, and read only the packed ones
  ///     from then on. Otherwise every pass packs each layer just before its product, as it must while weights change.
  ///   - noise: the schedule's tables, where ``AttentionConfiguration/readsNoise``.
  /// - Precondition: `weights` belong to `configuration`; `numerics` are supported.
  public init(
    _ configuration: DiTConfiguration, weights: Weights, context: ComputeContext, numerics: Numerics = Numerics(),
    weightsAreFixed: Bool = false, noise: AttentionNoise? = nil
  ) {
    precondition(weights.table == ParameterTable(configuration), "weights of another configuration")
    precondition(noise != nil || !configuration.attention.readsNoise, "attention that reads the noise schedule")
    precondition(numerics.isSupported, "OpenBLAS has no products of bf16 or int8")
    self.configuration = configuration
    self.weights = weights
    self.context = context
    self.numerics = numerics
    self.noise = noise
    store = weightsAreFixed && numerics.isPacked(on: context) ? PackedWeightStore() : nil
    let packed = store == nil ? [] : weights.packedLayers(numerics.precision).map(\.0.weight)
    held = weights.made(except: Set(packed + (numerics.isPacked(on: context) ? weights.packableHalves : [])))
    rotary = configuration.position.rotation.map { Self.rotaryTable(configuration, $0) }
  }

  private static func rotaryTable(_ c: DiTConfiguration, _ order: RotaryOrder) -> FloatSlice {
    let table = MutableFloatSlice(zeros: c.tokens * 2 * c.headSize)
    DiTKernels.rotaryTable(
      output: table.mutableSpan, rows: c.inputGrid.rows, columns: c.inputGrid.columns, headSize: c.headSize,
      order: order)
    return table.reading
  }

  /// Whether `forward` needs memory to pack a layer into.
  var packsPerCall: Bool { isPacked && store == nil }

  /// Where `forward` takes its layers from.
  private func inferenceSource(_ ws: InferenceWorkspace, samples: Int) -> LayerSource {
    if let store { return .stored(store.packed(weights, precision: numerics.precision, context: context)) }
    return isPacked ? .packing(ws.packing) : .blas(parts: samples)
  }

  /// What is kept between a block's products.
  var format: Format { numerics.precision.format }

  /// What the factors of a block's layer hold.
  func format(of layer: LinearLayer) -> Format { weights.format(of: layer, numerics.precision) }
}

// MARK: - Inference

extension DiTNetwork {
  /// One evaluation: output = DiT(images | modulation, sequence). An image has the same bits however many there are.
  ///
  /// - Parameters:
  ///   - output: (N, C', H, W); overwritten.
  ///   - images: (N, C, H, W).
  ///   - modulation: N rows.
  ///   - sequence: N sequences where the network is conditioned by one.
  ///   - samples: N.
  ///   - ws: made for at least N samples; nothing is allocated here without a cache.
  ///   - cache: made for at least N samples. Whether this evaluation is forecast, its ``StepCache/advance()`` has decided; one
  ///     that is not, it takes up.
  public func forward(
    output: consuming MutableSpan<Float>, images: Span<Float>, modulation: Modulation,
    sequence: SequenceTokens? = nil, samples: Int, workspace ws: InferenceWorkspace, cache: StepCache? = nil
  ) {
    let c = configuration
    precondition(ws.configuration == c && samples <= ws.samples, "a workspace for \(ws.samples) of another network")
    precondition(ws.numerics == numerics, "a workspace of other numerics")
    precondition(!packsPerCall || ws.packing.count > 0, "a workspace for packed weights")
    precondition(images.count == samples * c.imageElements, "\(images.count) elements for \(samples) images")
    precondition(modulation.rows >= samples, "\(modulation.rows) modulation rows for \(samples) images")
    checkSequence(sequence?.samples, of: samples)
    let pass = inference(modulation, sequence, samples, ws, cache)
    evaluate(pass, images: images, final: ws.blocks[0].norm1, output: output)
  }

  private func inference(
    _ modulation: Modulation, _ sequence: SequenceTokens?, _ samples: Int, _ ws: InferenceWorkspace,
    _ cache: StepCache? = nil
  ) -> ForwardPass {
    ForwardPass(
      network: self, source: inferenceSource(ws, samples: samples), modulation: modulation, samples: samples,
      prefixKeys: sequence?.prefixKeys ?? [], sequence: sequence, memory: ws.memory, blocks: ws.blocks, isSaved: false,
      dropout: nil, cache: cache)
  }

  /// The same evaluation from a block on, of the residual stream that another network left there; or, from the first, of images,
  /// with the stream before each block kept.
  ///
  /// - Parameters:
  ///   - stream: of (depth, ``streamElements(samples:)``), written where `images` are given, else read.
  ///   - block: where to begin, where no images are given.
  package func forward(
    output: consuming MutableSpan<Float>, images: [Float]?, stream: MutableFloatSlice, from block: Int = 0,
    modulation: Modulation, sequence: SequenceTokens?, samples: Int, workspace ws: InferenceWorkspace
  ) {
    precondition(ws.numerics == numerics && samples == ws.samples, "a workspace of other numerics")
    let (c, tokens) = (configuration, ws.blocks[0].x.memory)
    precondition(stream.count == c.depth * tokens.count, "a stream of \(stream.count) elements")
    var pass = inference(modulation, sequence, samples, ws)
    func before(_ block: Int) -> MutableFloatSlice { stream[block * tokens.count..<(block + 1) * tokens.count] }
    if let images {
      pass.entering = { if $0 < c.depth { before($0).copy(from: tokens.span) } }
      evaluate(pass, images: images.span, final: ws.blocks[0].norm1, output: output)
    } else {
      tokens.copy(from: before(block).span)
      evaluate(pass, from: block, final: ws.blocks[0].norm1, output: output)
    }
  }

  /// Of the residual stream of so many images.
  package func streamElements(samples: Int) -> Int {
    samples * configuration.totalTokens * configuration.hiddenSize
  }
}
