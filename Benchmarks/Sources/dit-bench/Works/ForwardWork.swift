import DiTEngine

/// The network once on a batch.
final class ForwardWork: Work {
  enum Mode: String, CaseIterable {
    /// The modulation is computed in the call.
    case single
    /// The modulation is already there, as in sampling, where it is computed once for many steps.
    case steady
  }

  let network: DiTNetwork
  /// (N, C', H, W) of the last call.
  let output: MutableFloatSlice
  private let inputs: Inputs
  private let mode: Mode
  private let modulation: Modulation
  private let workspace: InferenceWorkspace

  init(_ network: DiTNetwork, _ inputs: Inputs, mode: Mode) {
    let (c, samples) = (network.configuration, inputs.samples)
    self.network = network
    self.inputs = inputs
    self.mode = mode
    output = MutableFloatSlice(zeros: samples * c.outputElements)
    modulation = Modulation(c, rows: samples, values: MutableFloatSlice(zeros: Modulation.elements(c, rows: samples)))
    workspace = InferenceWorkspace(network, samples: samples)
    modulate()
  }

  /// (N, C', H, W).
  var outputShape: [Int] {
    let c = network.configuration
    return [inputs.samples, c.outChannels, c.inputHeight, c.inputWidth]
  }
  /// Bytes of activations.
  var workspaceBytes: Int { workspace.byteCount }
  /// Multiply-adds and additions of a call, as papers count them.
  var operations: Double { 2 * Double(inputs.samples * network.configuration.multiplyAdds) }

  func run() {
    if mode == .single { modulate() }
    let (output, images) = (output, inputs.images)
    network.forward(
      output: output.mutableSpan, images: images.span, modulation: modulation, samples: inputs.samples,
      workspace: workspace)
  }

  private func modulate() {
    network.modulate(times: inputs.times, labels: inputs.labels, into: modulation)
  }
}
