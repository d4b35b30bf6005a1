import DiTKernels
import DiTTensor

/// The normalization of the residual stream before a half of a block, with what modulates it:
///
///   layer: n = (x − mean) / √(var + ε)        rms: n = x / √(mean(x²) + ε) ⊙ weight        h = n (1 + scale) + shift
///
/// Sums are float32 in every format. RMSNorm has its weight here; LayerNorm's, where it has any, come with the modulation.
struct Norm: Sendable {
  let kind: Normalization
  let epsilon: Float
  /// RMSNorm's.
  let weight: Int?

  init(
    _ name: String, _ c: DiTConfiguration, epsilon: Double = DiTConfiguration.publishedEpsilon,
    _ b: inout ParameterBuilder
  ) {
    kind = c.norm
    self.epsilon = Float(epsilon)
    weight = kind == .rms ? b.add("\(name).weight", [c.hiddenSize], .constant(1)) : nil
  }

  /// A row's statistics, which the backward pass reads.
  struct Memory {
    /// Nil for RMSNorm.
    let mean: MutableFloatSlice?
    let rstd: MutableFloatSlice

    init(_ c: DiTConfiguration, rows: Int, _ arena: inout Arena) {
      mean = c.norm == .layer ? arena.reserve(rows) : nil
      rstd = arena.reserve(rows)
    }
  }

  /// h from x.
  func forward(_ pass: ForwardPass, _ h: MutableMatrix, _ x: Matrix, _ m: Memory, _ rows: ModulatedRows) {
    pass.context.normModulate(
      output: h, mean: m.mean, rstd: m.rstd, input: x, weight: weight.map { pass.weights.slices[$0] },
      shift: rows.shift.reading, scale: rows.scale.reading, epsilon: epsilon, tokens: rows.tokens)
  }

  /// The forward's h again.
  func again(_ pass: ForwardPass, _ h: MutableMatrix, _ x: Matrix, _ m: Memory, _ rows: ModulatedRows) {
    pass.context.modulateFromStatistics(
      output: h, mean: m.mean?.reading, rstd: m.rstd.reading, input: x, weight: weight.map { pass.weights.slices[$0] },
      shift: rows.shift.reading, scale: rows.scale.reading, tokens: rows.tokens)
  }

  /// dx += …, dshift, dscale (of each sample), dweight += …, from dh.
  func backward(
    _ pass: BackwardPass, _ dx: MutableMatrix, _ dh: Matrix, _ x: Matrix, _ m: Memory, _ rows: ModulatedRows,
    _ gradients: ModulatedRows
  ) {
    pass.context.normModulateBackward(
      inputGradient: dx, weightGradient: weight.map(pass.gradient), shiftGradient: gradients.shift,
      scaleGradient: gradients.scale, scratch: pass.ws.reduction, outputGradient: dh, mean: m.mean?.reading,
      rstd: m.rstd.reading, input: x, weight: weight.map { pass.forward.weights.slices[$0] },
      scale: rows.scale.reading, tokens: rows.tokens)
  }
}

/// Shift and scale of a norm, a row per sample, for samples of so many tokens.
struct ModulatedRows {
  let shift, scale: MutableMatrix
  let tokens: Int
}
