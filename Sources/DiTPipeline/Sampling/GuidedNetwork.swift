import DiTDiffusion
import DiTKernels
import DiTModel
import DiTTensor

/// The network as samplers see it, a function of (x, evaluation), with guidance and with memory for up to `batch` images.
///
/// Where guidance is active, the conditional and the unconditional pass are the two halves of one batch of 2N; a network that is
/// told guidance runs one pass. Where an image has so few tokens that its last bits would depend on the number of images, the
/// batch is filled up.
final class GuidedNetwork {
  private let network: DiTNetwork
  private let guidance: Guidance
  /// Whose evaluations are asked for.
  private let process: any ReverseProcess
  /// The network times of the evaluations, in order.
  private let times: [NetworkTime]
  /// Whether each is guided.
  private let isActive: [Bool]
  /// Whether each runs the unconditional pass too.
  private let isWhole: [Bool]
  private let isGuided: Bool
  private let workspace: InferenceWorkspace
  private let inputs, outputs: MutableFloatSlice
  /// ε_c − ε_u of the last evaluation that ran both passes, where others take it from there.
  private let difference: MutableFloatSlice
  private let rows: Modulation
  private var table: ModulationTable?
  /// For each row of the batch, conditional half first, which of the table's labels it has.
  private var labelIndices: [Int] = []
  private var rowIndices: [Int] = []
  /// The sequences of the batch's rows: the images' own, then empty ones.
  private var sequences: SequenceTokens?
  private var samples = 0
  /// Nil where every evaluation is computed.
  private let cache: StepCache?
  /// Whether the last evaluation ran the unconditional pass.
  private var wasActive: Bool?
  /// Rows of all evaluations so far that were computed.
  private(set) var evaluatedImages = 0
  /// Nil before the first.
  private(set) var last: LastEvaluation?

  init(
    _ network: DiTNetwork, guidance: Guidance, process: any ReverseProcess, caching: StepCaching? = nil, batch: Int
  ) {
    let c = network.configuration
    let times = process.evaluations
    self.process = process
    self.network = network
    self.guidance = guidance
    self.times = times
    isActive = guidance.decidingTimes(process).map { guidance.needsSecondPass(c, at: $0) }
    isWhole = guidance.computed(isActive)
    isGuided = isActive.contains(true)
    difference = MutableFloatSlice(zeros: isActive == isWhole ? 0 : batch * c.outputElements)
    let images = isGuided ? 2 * batch : batch
    workspace = InferenceWorkspace(network, samples: images)
    inputs = MutableFloatSlice(zeros: images * c.imageElements)
    outputs = MutableFloatSlice(zeros: images * c.outputElements)
    cache = caching.map { StepCache(c, $0, samples: images) }
    rows = Modulation(c, rows: images, values: MutableFloatSlice(zeros: Modulation.elements(c, rows: images)))
  }

  /// Takes up `samples` images with these labels (none for an unconditional model) and sequences.
  func begin(samples: Int, labels: [Int], sequence: SequenceInput?) {
    self.samples = samples
    wasActive = nil
    if let sequence {
      let own = network.embed(sequence)
      var all = SequenceTokens(network.configuration, samples: workspace.samples)
      for n in 0..<samples { all.copySample(n, from: own, n) }
      sequences = all
    }
    let null = network.configuration.numClasses
    let asked = isGuided && !labels.isEmpty ? labels + [Int](repeating: null, count: samples) : labels
    let distinct = Set(asked).sorted()
    let places = Dictionary(uniqueKeysWithValues: distinct.enumerated().map { ($1, $0) })
    let rows = isGuided ? 2 * samples : samples
    labelIndices = labels.isEmpty ? [Int](repeating: 0, count: rows) : asked.map { places[$0, default: 0] }
    rowIndices.reserveCapacity(labelIndices.count)
    if table?.labels != distinct {
      table = nil  // before the next is made
      let inputs = guidance.told(network.configuration, process)
      table = ModulationTable(network, inputs: inputs, labels: distinct)
    }
  }

  /// Keeps ε_c − ε_u of the passes at hand, or makes ε_u of it where only ε_c is there.
  private func shareDifference(isWhole: Bool) {
    let count = samples * network.configuration.outputElements
    let (outputs, kept) = (outputs, difference)
    var elements = outputs.mutableSpan
    var difference = kept.mutableSpan
    for i in 0..<count {
      if isWhole {
        difference[i] = elements[i] - elements[count + i]
      } else {
        elements[count + i] = elements[i] - difference[i]
      }
    }
  }

  /// The guided prediction for x at an evaluation, 0 for the first.
  ///
  /// - Parameters:
  ///   - output: (N, C', H, W); overwritten.
  ///   - x: (N, C, H, W).
  /// - Throws: `DiTError` when it is not finite: samplers that clip would make numbers of it.
  func predict(_ output: inout MutableSpan<Float>, _ x: Span<Float>, evaluation: Int) throws(DiTError) {
    guard let table else { preconditionFailure("predict before begin") }
    let c = network.configuration
    let (isActive, isWhole) = (isActive[evaluation], isWhole[evaluation])
    let count = isWhole ? 2 * samples : samples
    let first = table.row(ofEvaluation: evaluation)
    rowIndices.removeAll(keepingCapacity: true)
    for index in 0..<count { rowIndices.append(first + labelIndices[index]) }
    rows.copyRows(rowIndices, from: table.modulation)

    let size = samples * c.imageElements
    inputs[0..<size].copy(from: x)
    if isWhole { inputs[size..<2 * size].copy(from: x) }
    if isActive != wasActive { cache?.restart() }
    wasActive = isActive
    let isComputed = cache?.advance() ?? true
    network.forward(
      output: outputs[0..<count * c.outputElements].mutableSpan, images: inputs[0..<count * c.imageElements].span,
      modulation: rows, sequence: sequences, samples: count, workspace: workspace, cache: cache)
    if isComputed { evaluatedImages += count }
    if isActive, difference.count > 0 { shareDifference(isWhole: isWhole) }

    let last = LastEvaluation(
      shape: c.batchShape(samples), x: inputs[0..<size].reading,
      outputs: outputs[0..<(isActive ? 2 : 1) * samples * c.outputElements].reading,
      guidance: isActive ? guidance : nil,
      reading: process.cleanReading(at: evaluation).map { .all(noised: $0.noised, output: $0.output) }
        ?? .ofProcess(times[evaluation]))
    last.prediction(&output)
    self.last = last
    if let (image, found) = output.span.notFinite(images: samples) {
      let cause = isActive ? "under guidance \(guidance.scale)" : ""
      throw DiTError(overflow: "prediction", image: image, found: found, place: cause)
    }
  }
}
