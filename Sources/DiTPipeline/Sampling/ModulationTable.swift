import DiTDiffusion
import DiTModel
import DiTTensor

/// The modulation of many evaluations, computed before the network is evaluated.
///
/// adaLN's shifts, scales and gates depend on (t, y) alone. A chunk of evaluations is computed in one product for each
/// layer: those weights, a third of the model, are read once per chunk and not in between. Rows: for each evaluation of the
/// chunk one for each distinct label.
package final class ModulationTable {
  private let network: DiTNetwork
  /// What the network embeds at each evaluation, in order: `inputsPerTime` numbers each.
  private let inputs: [Float]
  private let inputsPerTime: Int
  /// The distinct labels; empty for an unconditional model.
  let labels: [Int]
  private let rowsPerTime: Int
  private let timesPerChunk: Int
  private let values: MutableFloatSlice
  private var chunk = 0..<0
  package private(set) var modulation: Modulation

  /// - Parameters:
  ///   - inputs: what the network embeds at each evaluation, in order: the time, or `timeInputs` numbers.
  ///   - labels: the labels that are asked for, each once; empty for an unconditional model.
  ///   - maximumBytes: what a chunk may take; one evaluation may take more.
  package init(_ network: DiTNetwork, inputs: [Float], labels: [Int], maximumBytes: Int = 256 << 20) {
    self.network = network
    self.inputs = inputs
    inputsPerTime = max(1, network.configuration.timeInputs)
    self.labels = labels
    rowsPerTime = max(1, labels.count)
    let c = network.configuration
    let rowBytes = Modulation.elements(c, rows: 1) * MemoryLayout<Float>.stride
    timesPerChunk = min(inputs.count / inputsPerTime, max(1, maximumBytes / (rowsPerTime * rowBytes)))
    let rows = timesPerChunk * rowsPerTime
    values = MutableFloatSlice(zeros: Modulation.elements(c, rows: rows))
    modulation = Modulation(c, rows: rows, values: values)
  }

  /// The first of the rows of an evaluation, 0 for the first; ``modulation`` then holds them, one a label.
  package func row(ofEvaluation evaluation: Int) -> Int {
    if !chunk.contains(evaluation) {
      compute(evaluation..<min(evaluation + timesPerChunk, inputs.count / inputsPerTime))
    }
    return (evaluation - chunk.lowerBound) * rowsPerTime
  }

  private func compute(_ evaluations: Range<Int>) {
    chunk = evaluations
    let rows = evaluations.count * rowsPerTime
    var times: [Float] = []
    times.reserveCapacity(rows * inputsPerTime)
    for row in 0..<rows {
      let first = (evaluations.lowerBound + row / rowsPerTime) * inputsPerTime
      times += inputs[first..<first + inputsPerTime]
    }
    let labels = self.labels.isEmpty ? [] : (0..<rows).map { self.labels[$0 % rowsPerTime] }
    modulation = Modulation(network.configuration, rows: rows, values: values)
    network.modulate(times: times, labels: labels, into: modulation, releasingWeights: true)
  }
}
