import DiTKernels
import DiTTensor

// A training step's forward pass, which saves what its backward pass reads, and the backward pass. Above each part of
// the backward stand the forward lines it differentiates. Gradients of parameters are added to; the caller zeroes them.

extension DiTNetwork {
  /// One evaluation that can be differentiated.
  ///
  /// - Parameters:
  ///   - output: (N, C', H, W); overwritten.
  ///   - images: (N, C, H, W); `patches` for the backward pass are cut from them again.
  ///   - times: one per sample, as in ``modulate(times:labels:into:releasingWeights:)``.
  ///   - labels: one per sample, as in ``modulate(times:labels:into:releasingWeights:)``.
  ///   - sequence: N sequences where the network is conditioned by one.
  ///   - dropout: what is dropped in the blocks, with a key for each sample; the workspace is then made for it.
  ///   - ws: made for at least N samples.
  ///   - needs: is called before weights are read, with the offset in the flat buffer before which they lie: block by block from the first,
  ///     or once with all by networks whose blocks are conditioned through layers of their own.
  public func trainingForward(
    output: consuming MutableSpan<Float>, images: Span<Float>, times: Span<Float>, labels: Span<Int>,
    sequence: SequenceInput? = nil, dropout: Dropout? = nil, workspace ws: TrainingWorkspace,
    needs: ((_ offset: Int) -> Void)? = nil
  ) {
    let samples = times.count / configuration.timeInputs
    checkBatch(samples, images.count, ws)
    checkSequence(sequence?.samples, of: samples)
    let modulation = Modulation(configuration, rows: samples, values: ws.modulation)
    let table = weights.table
    let needs = needs.flatMap { needs in
      if goesBlockByBlock { return needs }
      needs(table.elementCount)
      return nil
    }
    needs?(table.starts[0])
    modulate(times: times, labels: labels, into: modulation, saving: ws.conditioning, norms: needs == nil)
    let embedded = sequence.map { embed($0, into: ws.sequence, patches: ws.sequencePatches) }
    var pass = trainingPass(
      ws, samples: samples, modulation, prefixKeys: sequence?.prefixKeys ?? [], embedded, dropout)
    pass.entering = needs.map { needs in
      { index in
        needs(index < configuration.depth ? table.starts[index + 1] : table.elementCount)
        modulate(norms: index, into: modulation, saved: ws.conditioning)
      }
    }
    evaluate(pass, images: images, final: ws.finalNorm, output: output)
    ws.holdsForward = true
  }

  /// Whether a block's parameters, and the final layer's, are used there alone: its conditioning is a layer of the common condition.
  var goesBlockByBlock: Bool { configuration.embedders == .shared && !configuration.attention.hasGate }

  /// Layers are packed just before use, because the weights change.
  private func trainingPass(
    _ ws: TrainingWorkspace, samples: Int, _ modulation: Modulation, prefixKeys: [Int], _ sequence: SequenceTokens?,
    _ dropout: Dropout?
  ) -> ForwardPass {
    precondition(dropout == nil || ws.drops, "a workspace without dropout")
    precondition(
      dropout.map { $0.keys.count >= samples } ?? true, "\(dropout?.keys.count ?? 0) keys for \(samples) samples")
    return ForwardPass(
      network: self, source: isPacked ? .packing(ws.packing) : .blas(parts: 1), modulation: modulation,
      samples: samples, prefixKeys: prefixKeys, sequence: sequence, memory: ws.memory, blocks: ws.blocks, isSaved: true,
      dropout: dropout)
  }

  /// Adds the gradient of a loss to `gradients`, given its gradient with respect to the last `trainingForward`'s
  /// output, of the same images, times, labels, sequence and workspace. Once for each forward pass, whose activations it
  /// overwrites.
  ///
  /// - Parameters:
  ///   - gradients: flat, with the parameter table's offsets; added to.
  ///   - outputGradient: (N, C', H, W).
  ///   - images: of the forward pass.
  ///   - labels: of the forward pass.
  ///   - sequence: of the forward pass.
  ///   - dropout: of the forward pass.
  ///   - samples: N.
  ///   - ws: of the forward pass.
  ///   - finished: is told, as the pass goes from the last block to the first, from which offset on the gradients are what they will
  ///     be; not at its end, and not at all by networks whose blocks are conditioned through layers of their own.
  public func backward(
    gradients: MutableFloatSlice, outputGradient: Span<Float>, images: Span<Float>, labels: Span<Int>,
    sequence: SequenceInput? = nil, dropout: Dropout? = nil, samples: Int, workspace ws: TrainingWorkspace,
    finished: ((_ offset: Int) -> Void)? = nil
  ) {
    checkBatch(samples, images.count, ws)
    checkSequence(sequence?.samples, of: samples)
    precondition(ws.holdsForward, "a backward pass without a forward pass of its own")
    ws.holdsForward = false
    precondition(outputGradient.count == samples * configuration.outputElements, "\(outputGradient.count) gradients")
    precondition(
      configuration.labelRows == 0 || labels.count == samples, "\(labels.count) labels for \(samples) samples")
    let forward = trainingPass(
      ws, samples: samples, Modulation(configuration, rows: samples, values: ws.modulation),
      prefixKeys: sequence?.prefixKeys ?? [], nil, dropout)
    BackwardPass(forward: forward, gradients: gradients, ws: ws, finished: finished)
      .run(outputGradient, images: images, labels: labels, sequence: sequence)
  }

  /// A step forward and back: the output, the loss's gradient with respect to it, and what that adds to `gradients`.
  ///
  /// Parameters as in `trainingForward` and `backward`, and:
  /// - Parameters:
  ///   - images: (N, C, H, W).
  ///   - times: one per sample.
  ///   - labels: one per sample.
  ///   - sequence: N sequences where the network is conditioned by one.
  ///   - dropout: what is dropped in the blocks.
  ///   - output: memory for the output, (N, C', H, W).
  ///   - outputGradient: memory for its gradient, (N, C', H, W).
  ///   - gradients: flat, with the parameter table's offsets; added to.
  ///   - workspace: made for at least N samples.
  ///   - needs: as in the forward pass.
  ///   - finished: as in the backward pass.
  ///   - loss: writes the loss's gradient with respect to `output`, which then holds the network's; channels that it leaves
  ///     keep what `outputGradient` held.
  public func differentiate(
    images: Span<Float>, times: Span<Float>, labels: Span<Int>, sequence: SequenceInput? = nil,
    dropout: Dropout? = nil, output: MutableFloatSlice, outputGradient: MutableFloatSlice,
    into gradients: MutableFloatSlice, workspace: TrainingWorkspace, needs: ((_ offset: Int) -> Void)? = nil,
    finished: ((_ offset: Int) -> Void)? = nil,
    loss: (_ outputGradient: inout MutableSpan<Float>) -> Void
  ) {
    trainingForward(
      output: output.mutableSpan, images: images, times: times, labels: labels, sequence: sequence, dropout: dropout,
      workspace: workspace, needs: needs)
    var gradient = outputGradient.mutableSpan
    loss(&gradient)
    backward(
      gradients: gradients, outputGradient: outputGradient.span, images: images, labels: labels, sequence: sequence,
      dropout: dropout, samples: times.count / configuration.timeInputs, workspace: workspace, finished: finished)
  }

  private func checkBatch(_ samples: Int, _ elements: Int, _ ws: TrainingWorkspace) {
    precondition(ws.configuration == configuration && samples <= ws.samples && samples > 0, "another workspace")
    precondition(ws.numerics == numerics, "a workspace of other numerics")
    precondition(elements == samples * configuration.imageElements, "\(elements) elements for \(samples) images")
  }
}
