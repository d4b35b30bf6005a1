import DiTKernels
import DiTTensor

/// The attention half of a block: proj(attention(q, k, v)), [q ‖ k ‖ v] = qkv(h), with q and k normalized per head and
/// turned by their positions where the network does so, and the mask's gate.
struct Attention: Sendable {
  let qkv, proj: LinearLayer
  /// Weights of the per-head RMSNorm of q and k.
  let queryNorm, keyNorm: Int?
  /// The noise mask's, where there is one.
  let maskGate: MaskGate?

  init(_ name: String, _ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    let d = c.hiddenSize
    qkv = b.linear("\(name).qkv", d, 3 * d, hasBias: c.bias.qkv)
    queryNorm = c.qkNorm ? b.add("\(name).q_norm.weight", [c.headSize], .constant(1)) : nil
    keyNorm = c.qkNorm ? b.add("\(name).k_norm.weight", [c.headSize], .constant(1)) : nil
    proj = b.linear("\(name).proj", d, d, hasBias: c.bias.proj)
    maskGate = MaskGate("\(name).noise_mask.mlp", c, &b)
  }

  var layers: [LinearLayer] { [qkv, proj] }

  /// ε of the per-head norm.
  static let epsilon = Float(DiTConfiguration.publishedEpsilon)

  /// What the backward pass reads.
  struct Memory {
    let qkv, attended, projected: MutableMatrix
    let logsumexp: MutableFloatSlice
  }

  /// result = residual + gate ⊙ proj(attention(h)).
  func forward(_ pass: ForwardPass, _ h: Matrix, _ m: Memory, _ join: Join, _ extents: TokenExtents) {
    let attended = m.attended.prefix(h.rows)
    pass.apply(qkv, to: h, into: m.qkv.prefix(h.rows))
    pass.context.attention(
      output: attended, logsumexp: m.logsumexp,
      pass.operands(heads(pass, m.qkv.prefix(h.rows), extents), block: join.block, extents))
    join.close(pass, proj, to: attended.reading, sums: m.projected.prefix(h.rows), dropping: true)
  }

  /// q, k, v as attention takes them. What a norm of q and k made is kept apart from what it was made of, which the backward
  /// pass reads; a rotation alone is done in place.
  private func heads(_ pass: ForwardPass, _ qkv: MutableMatrix, _ extents: TokenExtents) -> Matrix {
    guard queryNorm != nil || pass.network.rotary != nil else { return qkv.reading }
    let prepared = queryNorm == nil || !pass.isSaved ? qkv : pass.memory.preparedHeads.prefix(qkv.rows)
    pass.context.prepareHeads(
      output: prepared, input: qkv.reading, queryWeight: queryNorm.map { pass.weights.slices[$0] },
      keyWeight: keyNorm.map { pass.weights.slices[$0] }, epsilon: Self.epsilon, table: pass.network.rotary,
      extents.attention, prefix: extents.prefix)
    return prepared.reading
  }

  /// proj's input and output again, exactly as in the forward pass: result and sums.
  func joinAgain(_ pass: ForwardPass, _ m: Memory, _ join: Join) {
    let rows = join.result.rows
    join.close(pass, proj, to: m.attended.prefix(rows).reading, sums: m.projected.prefix(rows), dropping: true)
  }

  /// dh, and the gradients of both layers; the forward's h is made again by `again` once its memory is free.
  func backward(
    _ pass: BackwardPass, into dh: MutableMatrix, _ m: Memory, _ join: Join, _ extents: TokenExtents,
    queryDots: MutableFloatSlice, again: () -> Matrix
  ) {
    let (rows, forward) = (dh.rows, pass.forward)
    let (attended, raw) = (m.attended.prefix(rows).reading, m.qkv.prefix(rows))
    var (heads, h): (Matrix, Matrix?) = (raw.reading, nil)
    if pass.ws.recomputes {
      let made = again()
      pass.network.apply(qkv, forward.source, to: made, into: raw)
      h = made
    }
    if pass.ws.recomputes || queryNorm != nil { heads = self.heads(forward, raw, extents) }
    let dattended = dh.reused(as: pass.network.format)
    pass.through(proj, into: dattended, pass.outputGradient(rows).reading, attended)
    let dqkv = pass.projectionGradient(rows, columns: qkv.outputs)
    pass.context.attentionBackward(
      qkvGradient: dqkv, queryDots: queryDots, outputGradient: dattended.reading, output: attended,
      logsumexp: m.logsumexp.reading, forward.operands(heads, block: join.block, extents))
    if queryNorm != nil || pass.network.rotary != nil {
      pass.context.prepareHeadsBackward(
        gradient: dqkv, input: raw.reading, queryWeight: queryNorm.map { forward.weights.slices[$0] },
        keyWeight: keyNorm.map { forward.weights.slices[$0] }, queryWeightGradient: queryNorm.map(pass.gradient),
        keyWeightGradient: keyNorm.map(pass.gradient), scratch: pass.ws.headsScratch, epsilon: Self.epsilon,
        table: pass.network.rotary, extents.attention, prefix: extents.prefix)
    }
    pass.through(qkv, into: dh, dqkv.reading, h ?? again())
  }
}

extension ForwardPass {
  /// What attention reads.
  func operands(_ qkv: Matrix, block: Int, _ extents: TokenExtents) -> AttentionOperands {
    extents.operands(
      qkv: qkv, modulation, block: block, scratch: memory.scratch, isPacked: network.isPacked)
  }
}
