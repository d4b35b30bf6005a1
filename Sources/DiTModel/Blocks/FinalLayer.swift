import DiTKernels
import DiTTensor

/// Tokens become pictures: output = unpatchify(Linear(norm(x))), the norm modulated as a block's.
struct FinalLayer: Sendable {
  let linear: LinearLayer
  let norm: Norm
  let modulation: NormModulation

  init(_ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    linear = b.linear("final_layer.linear", shape: [c.outputGrid.patchElements, c.hiddenSize], .zero)
    norm = Norm("final_layer.norm_final", c, &b)
    modulation = NormModulation("final_layer.", of: ["norm_final"], c, parts: 2, &b)
  }

  /// - Parameter x: the image's tokens, (samples · L, D).
  func forward(
    _ pass: ForwardPass, _ x: Matrix, _ m: Norm.Memory, into output: consuming MutableSpan<Float>
  ) {
    let (c, patches, h) = (pass.configuration, pass.memory.patches, pass.memory.finalH.prefix(x.rows))
    norm.forward(pass, h, x, m, pass.modulation.finalRows(tokens: c.tokens))
    pass.network.apply(
      linear, pass.source, to: h.reading, into: MutableMatrix(patches, rows: x.rows, columns: linear.outputs))
    unpatchify(
      images: output, patches: patches.span, samples: pass.samples, grid: c.outputGrid, order: .channelLast)
  }

  /// dx of the image's tokens, overwritten, and the gradients of the layer and its modulation.
  func backward(_ pass: BackwardPass, _ dx: MutableMatrix, _ x: Matrix, _ m: Norm.Memory, output: Span<Float>) {
    let (c, patched, h) = (pass.c, pass.ws.patches, pass.forward.memory.finalH.prefix(x.rows))
    let dh = pass.hGradient(x.rows)
    let rows = pass.modulation.finalRows(tokens: c.tokens)
    patchify(
      patches: patched.mutableSpan, images: output, samples: pass.samples, grid: c.outputGrid, order: .channelLast)
    norm.again(pass.forward, h, x, m, rows)
    pass.throughFloat32(
      linear, into: dh, Matrix(patched.reading, rows: x.rows, columns: linear.outputs), h.reading)
    dx.elements.fill(0)
    norm.backward(
      pass, dx, dh.reading, x, m, rows, pass.modulationGradient.finalRows(tokens: c.tokens))
  }
}
