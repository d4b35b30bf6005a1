import DiTModel
import DiTTensor

/// The modulation of many sampling steps, computed before they are taken.
///
/// adaLN's shifts, scales and gates depend on (t, y) alone. A chunk of steps is computed in one product for each layer:
/// those weights, a third of the model, are read once a chunk and not in between. Rows: for each step of the chunk one
/// for each distinct label.
package final class ModulationTable {
  private let network: DiTNetwork
  /// Training indices in the order in which the steps are taken.
  private let times: [Int]
  /// The distinct labels; empty for an unconditional model.
  let labels: [Int]
  private let rowsPerStep: Int
  private let stepsPerChunk: Int
  /// Rows below which the last bits would depend on their number; missing ones are made up.
  private let minimumRows: Int
  private let values: Slice
  private var chunk = 0..<0
  package private(set) var modulation: Modulation

  /// - Parameters:
  ///   - times: training indices in the order in which the steps are taken.
  ///   - labels: the labels that steps ask for, each once; empty for an unconditional model.
  ///   - maximumBytes: what a chunk may take; one step may take more.
  package init(_ network: DiTNetwork, times: [Int], labels: [Int], maximumBytes: Int = 256 << 20) {
    self.network = network
    self.times = times
    self.labels = labels
    rowsPerStep = max(1, labels.count)
    let c = network.configuration
    let rowBytes = Modulation.elements(c, rows: 1) * MemoryLayout<Float>.stride
    stepsPerChunk = min(times.count, max(1, maximumBytes / (rowsPerStep * rowBytes)))
    minimumRows = c.independentModulationRows
    let rows = max(stepsPerChunk * rowsPerStep, minimumRows)
    values = Slice(zeros: Modulation.elements(c, rows: rows))
    modulation = Modulation(c, rows: rows, values: values)
  }

  /// The first of the rows of the `step`-th step taken, 0…S−1; ``modulation`` then holds them, one a label.
  package func row(ofStep step: Int) -> Int {
    if !chunk.contains(step) { compute(step..<min(step + stepsPerChunk, times.count)) }
    return (step - chunk.lowerBound) * rowsPerStep
  }

  private func compute(_ steps: Range<Int>) {
    chunk = steps
    let rows = max(steps.count * rowsPerStep, minimumRows)
    var times = [Float](repeating: 0, count: rows)
    var labels = [Int](repeating: 0, count: self.labels.isEmpty ? 0 : rows)
    for row in 0..<steps.count * rowsPerStep {
      times[row] = Float(self.times[steps.lowerBound + row / rowsPerStep])
      if !labels.isEmpty { labels[row] = self.labels[row % rowsPerStep] }
    }
    modulation = Modulation(network.configuration, rows: rows, values: values)
    network.modulate(times: times, labels: labels, into: modulation, releasingWeights: true)
  }
}
