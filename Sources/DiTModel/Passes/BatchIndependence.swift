import DiTKernels

// How large a batch must be for an image not to depend, bit for bit, on how many others run with it.

extension DiTNetwork {
  /// Images of a forward pass; mostly 1, more where OpenBLAS multiplies and an image has few tokens. Over packed weights
  /// no row depends on another.
  public var independentSamples: Int { isPacked ? 1 : configuration.independentSamples }
}

extension DiTConfiguration {
  /// Images of a forward pass through OpenBLAS.
  var independentSamples: Int {
    let d = hiddenSize
    let rows = [
      ComputeContext.independentRows(inputs: inputGrid.patchElements, outputs: d),
      ComputeContext.independentRows(inputs: d, outputs: 3 * d), ComputeContext.independentRows(inputs: d, outputs: d),
      ComputeContext.independentRows(inputs: d, outputs: mlpSize),
      ComputeContext.independentRows(inputs: mlpSize, outputs: d),
      ComputeContext.independentRows(inputs: d, outputs: outputGrid.patchElements),
    ]
    return ((rows.max() ?? 1) + tokens - 1) / tokens
  }

  /// Rows of a modulation.
  public var independentModulationRows: Int {
    let d = hiddenSize
    let gate =
      attention.hasGate
      ? max(
        ComputeContext.independentRows(inputs: d, outputs: gateSize),
        ComputeContext.independentRows(inputs: gateSize, outputs: numHeads)) : 1
    return max(
      gate,
      ComputeContext.independentRows(inputs: timeFrequencyCount, outputs: d),
      ComputeContext.independentRows(inputs: d, outputs: d), ComputeContext.independentRows(inputs: d, outputs: 2 * d),
      ComputeContext.independentRows(inputs: d, outputs: Modulation.parts(self) * d))
  }
}
