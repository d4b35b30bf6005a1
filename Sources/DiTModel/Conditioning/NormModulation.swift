import DiTKernels
import DiTTensor

/// Where the shift and scale of a block's norms, or the final one's, come from, and with `adaln_zero` the block's gates.
enum NormModulation: Sendable {
  /// A linear layer of the condition: modulation = Linear(silu(c)).
  case adaLN(LinearLayer)
  /// Weight and bias of each LayerNorm's own, the same for all samples: shift = bias, scale = weight − 1.
  case own([(weight: Int, bias: Int)])
  /// Nothing: shift and scale are 0. RMSNorm has its weight itself.
  case none

  /// - Parameter parts: vectors of D that the condition gives.
  init(_ prefix: String, of norms: [String], _ c: DiTConfiguration, parts: Int, _ b: inout ParameterBuilder) {
    let d = c.hiddenSize
    if c.conditioning.isModulated {
      self = .adaLN(b.linear("\(prefix)adaLN_modulation.1", d, parts * d, .zero))
    } else if c.norm == .rms {
      self = .none
    } else {
      self = .own(
        norms.map {
          (b.add("\(prefix)\($0).weight", [d], .constant(1)), b.add("\(prefix)\($0).bias", [d], .zero))
        })
    }
  }

  /// The layer of the condition, if there is one.
  var adaLN: LinearLayer? { if case .adaLN(let layer) = self { layer } else { nil } }

  /// Shift, scale (and gate) of all rows into `target`.
  ///
  /// - Parameters:
  ///   - activated: silu(c), a row each.
  ///   - releasing: lets go of the layer's pages, where they are a file's, once it has been read.
  func forward(
    _ network: DiTNetwork, _ source: LayerSource, into target: MutableFloatSlice, activated: Matrix, releasing: Bool
  ) {
    let d = network.configuration.hiddenSize
    switch self {
    case .adaLN(let layer):
      network.apply(
        layer, source, to: activated, into: MutableMatrix(target, rows: activated.rows, columns: layer.outputs))
      if releasing { network.weights.slices[layer.weight].releasePages() }
    case .own(let norms):
      // The kernels multiply by 1 + scale.
      for (place, norm) in norms.enumerated() {
        target[2 * place * d..<(2 * place + 1) * d].copy(from: network.weights.slices[norm.bias])
        let scale = target[(2 * place + 1) * d..<(2 * place + 2) * d]
        scale.fill(-1)
        network.context.add(network.weights.slices[norm.weight], to: scale)
      }
    case .none: target.fill(0)
    }
  }

  /// The gradients of what is not the condition's: shift = bias, scale = weight − 1, the same for all samples.
  func backward(_ pass: BackwardPass, rows: FloatSlice) {
    guard case .own(let norms) = self else { return }
    let d = pass.c.hiddenSize
    let stride = 2 * norms.count * d
    func add(_ part: Int, to parameter: Int) {
      pass.context.addSum(
        into: pass.gradient(parameter),
        ofRows: Matrix(rows[part * d..<rows.count], rows: pass.samples, columns: d, stride: stride))
    }
    for (place, norm) in norms.enumerated() {
      add(2 * place, to: norm.bias)
      add(2 * place + 1, to: norm.weight)
    }
  }
}

/// Vectors of a block's own that multiply its halves, where there are such.
struct BlockGates: Sendable {
  let attention, feedForward: Int?

  init(_ prefix: String, _ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    let isVector = c.residualGates == .vector
    attention = isVector ? b.add("\(prefix)attn_scale", [c.hiddenSize], .constant(1)) : nil
    feedForward = isVector ? b.add("\(prefix)mlp_scale", [c.hiddenSize], .constant(1)) : nil
  }

  func vector(_ half: BlockHalf) -> Int? { half == .attention ? attention : feedForward }
}
