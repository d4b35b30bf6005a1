import DiTKernels
import DiTTensor

/// One block of the network:
///
///   y = x + gate ⊙ attention(norm1(x))        z = y + gate ⊙ feedForward(norm2(y))
///
/// where the norms are modulated (see ``NormModulation``) and the gates come from the condition, are vectors of the block's
/// own, or are not there.
struct Block: Sendable {
  let attention: Attention
  let feedForward: any FeedForwardPart
  let norm1, norm2: Norm
  let modulation: NormModulation
  let gates: BlockGates

  init(_ prefix: String, _ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    attention = Attention("\(prefix)attn", c, &b)
    feedForward = c.mlp.part.init("\(prefix)mlp", c, &b)
    norm1 = Norm("\(prefix)norm1", c, &b)
    norm2 = Norm("\(prefix)norm2", c, epsilon: c.norm2Epsilon, &b)
    gates = BlockGates(prefix, c, &b)
    modulation = NormModulation(prefix, of: ["norm1", "norm2"], c, parts: Modulation.parts(c), &b)
  }

  /// Over the blocks' tokens.
  var layers: [LinearLayer] { attention.layers + feedForward.layers }

  /// What a block computes and, when training, saves for its backward pass. In inference x, y and z are the same memory.
  struct Memory {
    let x, y, z: MutableMatrix
    let norm1, norm2: Norm.Memory
    let attention: Attention.Memory
    let feedForward: FeedForwardMemory
  }
}

// MARK: - Forward

extension DiTNetwork {
  /// The blocks `range`, each of which adds to the residual stream what attention and the feed-forward part make of it.
  func run(blocks range: Range<Int>, _ pass: ForwardPass) {
    for index in range {
      pass.entering?(index)
      let (block, m, extents) = (weights.table.blocks[index], pass.blocks[index], pass.extents(index))
      if index == configuration.inContextStart { joinTokens(m.x.memory, pass) }
      let (first, second) = (pass.join(index, .attention, m, extents), pass.join(index, .feedForward, m, extents))
      if let cache = pass.blockCache, cache.isForecasting {
        first.forecast(pass, cache)
        second.forecast(pass, cache)
        continue
      }
      let (x, y) = (m.x.prefix(extents.rows), m.y.prefix(extents.rows))

      var h = pass.entry(block.attention.qkv, rows: extents.rows)
      block.norm1.forward(pass, h, x.reading, m.norm1, pass.modulated(index, .attention, extents))
      block.attention.forward(pass, h.reading, m.attention, first, extents)

      h = pass.entry(block.feedForward.entry, rows: extents.rows)
      block.norm2.forward(pass, h, y.reading, m.norm2, pass.modulated(index, .feedForward, extents))
      block.feedForward.forward(pass, h.reading, m.feedForward, second)
    }
  }
}

/// The halves of a block.
enum BlockHalf: Int { case attention, feedForward }

extension ForwardPass {
  /// Shift and scale of a half's norm.
  func modulated(_ index: Int, _ half: BlockHalf, _ extents: TokenExtents) -> ModulatedRows {
    modulation.rows(index, half, tokens: extents.tokens)
  }

  /// How a half joins the residual stream.
  func join(_ index: Int, _ half: BlockHalf, _ m: Block.Memory, _ extents: TokenExtents) -> Join {
    let (from, to) = half == .attention ? (m.x, m.y) : (m.y, m.z)
    let gate = network.weights.table.blocks[index].gates.vector(half).map { index in
      Matrix(weights.slices[index], rows: samples, columns: to.columns, stride: 0)
    }
    return Join(
      block: index, half: half, tokens: extents.tokens, result: to.prefix(extents.rows),
      residual: isSaved ? from.prefix(extents.rows).reading : nil,
      gate: gate ?? modulation.gate(index, half).reading,
      dropout: Dropout.blocks(of: configuration.depth) ~= index ? dropout : nil)
  }
}

// MARK: - Backward

extension BackwardPass {
  /// The blocks from the last to the first.
  func blocks() {
    for index in stride(from: c.depth - 1, through: 0, by: -1) {
      feedForward(index)
      attention(index)
      if index == c.inContextStart { leaveTokens() }
      end(index)
    }
  }

  // z = y + gate ⊙ feedForward(norm2(y))
  private func feedForward(_ i: Int) {
    let (block, m, extents) = (table.blocks[i], ws.blocks[i], forward.extents(i))
    let (y, rows) = (m.y.prefix(extents.rows).reading, forward.modulated(i, .feedForward, extents))
    let h = h(extents.rows)
    func again() -> Matrix {
      block.norm2.again(forward, h, y, m.norm2, rows)
      return h.reading
    }
    let join = forward.join(i, .feedForward, m, extents)
    if ws.recomputes {
      block.attention.joinAgain(forward, m.attention, forward.join(i, .attention, m, extents))
      block.feedForward.forward(forward, again(), m.feedForward, scrapped(join))
    }
    join.backward(
      self, half: m.feedForward.projected.prefix(extents.rows), gate: gateGradient(i, .feedForward), dropping: false)
    addGateGradient(i, .feedForward)
    let dh = hGradient(extents.rows)
    block.feedForward.backward(self, into: dh, m.feedForward, join) { ws.recomputes ? h.reading : again() }
    block.norm2.backward(
      self, tokenGradient(extents.rows), dh.reading, y, m.norm2, rows, modulatedGradient(i, .feedForward, extents))
  }

  // y = x + gate ⊙ attention(norm1(x))
  private func attention(_ i: Int) {
    let (block, m, extents) = (table.blocks[i], ws.blocks[i], forward.extents(i))
    let (x, rows) = (m.x.prefix(extents.rows).reading, forward.modulated(i, .attention, extents))
    let (h, join) = (h(extents.rows), forward.join(i, .attention, m, extents))
    join.backward(
      self, half: m.attention.projected.prefix(extents.rows), gate: gateGradient(i, .attention), dropping: true)
    addGateGradient(i, .attention)
    let dh = hGradient(extents.rows)
    block.attention.backward(
      self, into: dh, m.attention, join, extents,
      queryDots: c.attention.hasGate ? modulationGradient.scales(i) : .empty
    ) {
      block.norm1.again(forward, h, x, m.norm1, rows)
      return h.reading
    }
    block.norm1.backward(
      self, tokenGradient(extents.rows), dh.reading, x, m.norm1, rows, modulatedGradient(i, .attention, extents))
  }

  /// The same with its result, which is not used, in memory whose next writer is the gate's backward.
  private func scrapped(_ join: Join) -> Join {
    Join(
      block: join.block, half: join.half, tokens: join.tokens, result: ws.outputGradient.prefix(join.result.rows),
      residual: join.residual, gate: join.gate, dropout: join.dropout)
  }

  /// The gradient of a half's gate, a row per sample.
  private func gateGradient(_ i: Int, _ half: BlockHalf) -> MutableMatrix { modulationGradient.gate(i, half) }

  /// A gate that is a vector gets the sum over the samples.
  private func addGateGradient(_ i: Int, _ half: BlockHalf) {
    guard let vector = table.blocks[i].gates.vector(half) else { return }
    context.addSum(into: gradient(vector), ofRows: gateGradient(i, half).reading)
  }

  private func modulatedGradient(_ i: Int, _ half: BlockHalf, _ extents: TokenExtents) -> ModulatedRows {
    modulationGradient.rows(i, half, tokens: extents.tokens)
  }
}
