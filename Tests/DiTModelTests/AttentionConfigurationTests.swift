import DiTModel
import DiTTensor
import TestSupport
import Testing

/// Scales and widths from the noise schedule, by the formulas; what an untrained mask is; that nothing is ignored.
@Suite("Diffusion-aware attention: scales, widths and masks by their formulas") struct AttentionConfigurationTests {
  private let noise = AttentionNoise.published

  @Test("Temperatures follow their formulas of beta and the head size")
  func temperatures() {
    for t in [0, 500, 999] {
      let beta = noise.betas[t]
      func scale(_ temperature: AttentionConfiguration.Temperature) -> Double {
        Double(AttentionConfiguration(temperature: temperature).scale(at: t, of: noise, headSize: 72))
      }
      #expect(abs(scale(.standard) - 1 / 72.0.squareRoot()) < 1e-8)
      // 1/(√d · Temp), Temp = 1/√(β d)
      #expect(abs(scale(.sqrtBeta) - 1 / (72.0.squareRoot() / (beta * 72).squareRoot())) < 1e-7)
      #expect(abs(scale(.inverseSqrtBeta) * (72 * beta).squareRoot() - 1) < 1e-6)
    }
  }

  /// k(t) = ⌈a_t · L⌉: at least 1, at most all, and as wide at low noise as its word says.
  @Test("Window widths follow their formulas, from one token to all")
  func widths() {
    func width(_ window: AttentionConfiguration.Window, _ distance: AttentionConfiguration.Distance, _ t: Int) -> Int {
      AttentionConfiguration(mask: .hard, window: window, distance: distance)
        .width(at: t, of: noise, rows: 6, columns: 10)
    }
    for t in [0, 1, 250, 999] {
      let signal = noise.alphasCumprod[t]
      #expect(width(.signal, .raster, t) == Int((signal.squareRoot() * 60).rounded(.up)))
      #expect(width(.noise, .raster, t) == Int(((1 - signal).squareRoot() * 60).rounded(.up)))
      #expect(width(.noise, .grid, t) == Int(((1 - signal).squareRoot() * 10).rounded(.up)))
      #expect(width(.full, .raster, t) == 60 && width(.full, .grid, t) == 10)
    }
    #expect(width(.signal, .raster, 0) == 60 && width(.signal, .raster, 999) == 1)
    #expect(width(.noise, .raster, 0) == 1 && width(.noise, .raster, 999) == 60)
  }

  /// The step of a network's time: t itself; of a flow the ⌈sT⌉-th, also where s was rounded.
  @Test("A network's time finds its training step, for chains and flows")
  func trainingStepOfATime() {
    #expect([0, 7, 999].map { noise.index(ofTime: Float($0)) } == [0, 7, 999])
    let flow = AttentionNoise(betas: noise.betas, alphasCumprod: noise.alphasCumprod, linearTime: .thousandths)
    #expect([0.25, 1, 1.5, 2, 1000].map { flow.index(ofTime: Float($0)) } == [0, 0, 1, 1, 999])
    let short = AttentionNoise(
      betas: Array(noise.betas[..<7]), alphasCumprod: Array(noise.alphasCumprod[..<7]), linearTime: .thousandths)
    for k in 1...7 { #expect(short.index(ofTime: Float(1000 * Double(k) / 7)) == k - 1) }
  }

  /// Weight 0 and bias 4: every gate of a new network is sigmoid(4), and a full window is then plain attention whose
  /// logits are 0.982 of what they were.
  @Test("A new mask starts with weight 0 and bias 4, and counts its parameters")
  func newMask() throws {
    var masked = DiTConfiguration(
      inputHeight: 8, inputWidth: 8, inChannels: 2, hiddenSize: 16, depth: 2, numHeads: 2, numClasses: 5)
    let plain = DiTNetworkProbe(masked)
    masked.attention = AttentionConfiguration(mask: .soft)
    let probe = DiTNetworkProbe(masked)
    for block in 0..<2 {
      let name = "blocks.\(block).attn.noise_mask.mlp"
      #expect(probe.weights["\(name).0.weight"]?.count == 4 * 16)
      #expect(probe.weights["\(name).2.weight"]?.array == [Float](repeating: 0, count: 2 * 4))
      #expect(probe.weights["\(name).2.bias"]?.array == [4, 4])
    }
    #expect(probe.weights.table.parameterCount - plain.weights.table.parameterCount == 2 * (4 * 16 + 4 + 2 * 4 + 2))
    #expect(masked.multiplyAdds - plain.configuration.multiplyAdds == 2 * (16 * 4 + 4 * 2))
  }

  /// Every word changes the output of one and the same network.
  @Test("Every word of the attention's configuration changes the output")
  func everyWordCounts() throws {
    var outputs: [[Float]] = []
    for attention in [
      AttentionConfiguration(mask: .soft), AttentionConfiguration(mask: .hard, window: .noise),
      AttentionConfiguration(mask: .soft, window: .noise), AttentionConfiguration(mask: .soft, window: .signal),
      AttentionConfiguration(mask: .soft, window: .signal, distance: .grid),
      AttentionConfiguration(temperature: .sqrtBeta, mask: .soft),
      AttentionConfiguration(temperature: .inverseSqrtBeta, mask: .soft),
    ] {
      var c = DiTConfiguration(
        inputHeight: 8, inputWidth: 8, inChannels: 2, hiddenSize: 16, depth: 1, numHeads: 2, numClasses: 0)
      c.attention = attention
      let table = ParameterTable(c)
      var draw = Draw(seed: 141)
      let flat = FloatSlice(draw.normal(table.elementCount, deviation: 0.2))
      let batch = Case(
        configuration: c, weights: Weights(table, flat: flat), images: draw.normal(128), times: [400], labels: [])
      outputs.append(try batch.network(Engine.exact[0]).evaluate(batch))
    }
    for i in outputs.indices {
      for j in 0..<i {
        #expect(mismatch(outputs[i], outputs[j].doubles, within: .networkGradient) != nil, "\(i), \(j)")
      }
    }
  }
}

/// A configuration with a new network's weights.
private struct DiTNetworkProbe {
  let configuration: DiTConfiguration
  let weights: Weights

  init(_ configuration: DiTConfiguration) {
    self.configuration = configuration
    weights = Weights.initialized(configuration, seed: 1).weights
  }
}
