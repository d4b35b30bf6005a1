import DiTKernels
import DiTTensor

/// A forward pass, in inference or training: what the parts of the network share while it runs.
package struct ForwardPass {
  package let network: DiTNetwork
  package let source: LayerSource
  let modulation: Modulation
  let samples: Int
  /// As ``TokenExtents`` takes them.
  let prefixKeys: [Int]
  /// The rows of a conditioning sequence.
  let sequence: SequenceTokens?
  package let memory: PassMemory
  /// Of each block.
  let blocks: [Block.Memory]
  /// Whether a backward pass follows, which reads what the parts keep.
  package let isSaved: Bool
  let dropout: Dropout?
  /// Called before a block, and before the final layer with the depth, where their weights or conditioning are not there yet.
  var entering: ((_ block: Int) -> Void)?

  /// In inference, where evaluations are forecast from earlier ones.
  var cache: StepCache?
  /// The same where it is the blocks' halves that are forecast.
  var blockCache: StepCache? { cache?.caching.kind == .taylor ? cache : nil }

  var configuration: DiTConfiguration { network.configuration }
  package var context: ComputeContext { network.context }
  var weights: Weights { network.weights }

  /// Those of block `index`: the image's tokens alone until the others join them.
  func extents(_ index: Int) -> TokenExtents {
    index < configuration.inContextStart
      ? TokenExtents(configuration, samples: samples, hasPrefix: false)
      : TokenExtents(configuration, samples: samples, prefixKeys: prefixKeys)
  }
}

/// Memory that the parts of a pass use in turn.
package struct PassMemory {
  let patches, scratch: MutableFloatSlice
  /// What enters a half of a block, (rows, D), of the products' format; what enters the final layer, float32.
  let h, finalH: MutableMatrix
  /// What enters an int8 product, in the memory of `h`, and of any width that a block's layer has; empty where there is none.
  let codes: MutableFloatSlice
  /// The feed-forward part's hidden layer, of the products' format.
  package let hidden: MutableMatrix
  /// q, k and v with q and k normalized, while what they were made of is kept.
  let preparedHeads: MutableMatrix
  /// Between the two maps of the patch embedding, float32.
  let bottleneck: MutableMatrix
}

extension DiTNetwork {
  /// The network itself: output = decode(blocks(embed(images))), in the order in which the paper tells it.
  func evaluate(_ pass: ForwardPass, images: Span<Float>, final: Norm.Memory, output: consuming MutableSpan<Float>) {
    let (c, table) = (configuration, weights.table)
    let last = pass.blocks[c.depth - 1].z
    let (tokens, whole) = (last.prefix(pass.samples * c.tokens), pass.cache?.caching.kind == .lite ? pass.cache : nil)
    if let whole, whole.isForecasting {
      whole.add(0, to: tokens, gate: nil, tokens: c.tokens, context)
    } else {
      table.patchEmbedding.forward(pass, images: images, into: pass.blocks[0].x)
      run(blocks: 0..<c.depth, pass)
      pass.entering?(c.depth)
      gatherImageTokens(last.memory, samples: pass.samples)
      whole?.keep(0, tokens.reading, context)
    }
    table.finalLayer.forward(pass, tokens.reading, final, into: output)
  }

  /// The same from a block on, whose tokens are in its memory.
  func evaluate(_ pass: ForwardPass, from block: Int, final: Norm.Memory, output: consuming MutableSpan<Float>) {
    let (c, last) = (configuration, pass.blocks[configuration.depth - 1].z)
    run(blocks: block..<c.depth, pass)
    gatherImageTokens(last.memory, samples: pass.samples)
    weights.table.finalLayer.forward(
      pass, last.prefix(pass.samples * c.tokens).reading, final, into: output)
  }

  /// The tokens before the image's join them: the condition's, then the sequence's.
  func joinTokens(_ x: MutableFloatSlice, _ pass: ForwardPass) {
    let (c, d, tokens) = (configuration, configuration.hiddenSize, weights.table.conditionTokens)
    spreadImageTokens(x, samples: pass.samples)
    for n in 0..<pass.samples {
      let start = n * c.totalTokens * d
      tokens.forward(
        self, into: x[start..<x.count], conditions: pass.modulation.condition(n).reading)
      guard let sequence = pass.sequence else { continue }
      let (rows, first) = (sequence.rows(n), start + c.conditionTokens * d)
      x[first..<first + rows.count].copy(from: rows.span)
    }
  }
}
