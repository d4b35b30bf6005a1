import DiTKernels
import DiTTensor

/// A backward pass: what the parts of the network share while the gradients go back through them. Each part's own is in its
/// file, beside the forward lines that it differentiates. Gradients of parameters are added to.
package struct BackwardPass {
  /// The pass that it differentiates.
  let forward: ForwardPass
  let gradients: MutableFloatSlice
  package let ws: TrainingWorkspace
  /// Is told from which offset on the gradients are what they will be.
  let finished: ((_ offset: Int) -> Void)?

  package var network: DiTNetwork { forward.network }
  var c: DiTConfiguration { network.configuration }
  package var context: ComputeContext { network.context }
  var table: ParameterTable { network.weights.table }
  var samples: Int { forward.samples }
  var d: Int { c.hiddenSize }
  var modulation: Modulation { forward.modulation }
  var modulationGradient: Modulation { Modulation(gradients: c, rows: samples, values: ws.modulationGradient) }

  /// A parameter's gradient.
  func gradient(_ index: Int) -> MutableFloatSlice { gradients[table.parameters[index].range] }

  // The factors of a block's products are of the products' format; those of the other layers float32.
  func h(_ rows: Int) -> MutableMatrix { ws.h.prefix(rows) }
  func hidden(_ rows: Int) -> MutableMatrix { forward.memory.hidden.prefix(rows) }
  package func outputGradient(_ rows: Int) -> MutableMatrix {
    ws.outputGradient.prefix(rows).reused(as: network.format)
  }
  /// What enters a block's norm gets its gradient in float32.
  func hGradient(_ rows: Int) -> MutableMatrix { ws.hGradient.prefix(rows) }
  /// Of the residual stream.
  func tokenGradient(_ rows: Int) -> MutableMatrix { ws.tokenGradient.prefix(rows) }
  func projectionGradient(_ rows: Int, columns: Int) -> MutableMatrix {
    MutableMatrix(ws.projectionGradient, rows: rows, columns: columns, format: network.format)
  }

  /// The network backwards.
  func run(_ outputGradient: Span<Float>, images: Span<Float>, labels: Span<Int>, sequence: SequenceInput?) {
    let tokens = ws.blocks[c.depth - 1].z.prefix(samples * c.tokens)
    table.finalLayer.backward(
      self, tokenGradient(samples * c.tokens), tokens.reading, ws.finalNorm, output: outputGradient)
    end(c.depth)
    spreadTokens()
    blocks()
    if let sequence { table.sequence?.backward(self, sequence) }
    table.patchEmbedding.backward(self, images: images)
    conditioning(labels)
  }

  /// Ends what stands from the start of block `index` on, of the final layer where there is none. What a condition's own layers and
  /// the gates that it opens get is known at the very end.
  func end(_ index: Int) {
    modulationGradients(index)
    if let finished, network.goesBlockByBlock { finished(table.starts[index]) }
  }

  /// The image's tokens have the final layer's gradient, the tokens before them none.
  private func spreadTokens() {
    let (all, prefix) = (ws.tokenGradient.memory, c.prefixTokens * d)
    network.spreadImageTokens(all, samples: samples)
    for n in 0..<samples where prefix > 0 {
      all[n * c.totalTokens * d..<n * c.totalTokens * d + prefix].fill(0)
    }
  }

  /// Back before the block where other tokens join the image's: their gradients to what they are made of, and the image's
  /// brought together.
  func leaveTokens() {
    let (dx, dm, count) = (ws.tokenGradient.memory, modulationGradient, c.sequenceLength * d)
    for n in 0..<samples {
      let start = n * c.totalTokens * d
      if !table.conditionTokens.groups.isEmpty {
        table.conditionTokens.backward(self, dx[start..<dx.count].reading, conditions: dm.condition(n))
      }
      let first = start + c.conditionTokens * d
      if count > 0 { ws.sequence[n * count..<(n + 1) * count].copy(from: dx[first..<first + count].reading) }
    }
    network.gatherImageTokens(dx, samples: samples)
  }
}
