// Weights to start from, taken over from another model.

import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor

/// The first weights of a run, taken over from another model, and notes for the user about them.
///
/// The values stay where the source has them until ``copy(to:)``.
public struct StartingWeights: Sendable {
  /// One line for each tensor that is not taken over as it was.
  public private(set) var notes: [String]
  /// AdamW's moments to go on with; nil where they begin at zero.
  public private(set) var moments: TorchAdam?
  private let transfer: Transfer

  /// The values of `source`, whose own configuration is `origin`, for a network `target`.
  ///
  /// With another number of classes the label table is made anew, the null row too; with the same classes and a null
  /// row that the source lacks, that row alone; for another input size a fixed position table is computed and a learned one
  /// resampled; for another conditioning sequence its tensors are made anew. All else must have the target's names and
  /// shapes, and the same number of heads, time frequencies and
  /// ε of the second LayerNorms.
  ///
  /// - Parameters:
  ///   - source: all tensors.
  ///   - origin: their network.
  ///   - target: the network that is to be trained.
  ///   - seed: of what is made anew.
  ///   - name: what errors call the source, for example its path.
  /// - Throws: `DiTError` with every difference, for another number of heads or other time frequencies.
  public init(
    from source: Weights, of origin: DiTConfiguration, for target: DiTConfiguration, seed: Int, name: String
  ) throws {
    let transfer = Transfer(
      source: source, origin: origin, target: target, table: ParameterTable(target),
      seed: UInt64(bitPattern: Int64(seed)))
    let isMade = { (parameter: Parameter) in transfer.remakes(parameter.name) }
    let key = { (parameter: Parameter) in (name: parameter.name, shape: parameter.shape) }
    try StateDict.check(
      source.table.parameters.filter { !isMade($0) }.map(key),
      holds: transfer.table.parameters.filter { !isMade($0) }.map(key), path: name)
    guard origin.numHeads == target.numHeads else {
      throw DiTError(
        file: name, .argument("heads"), expected: "\(target.numHeads)", found: "\(origin.numHeads)")
    }
    guard origin.norm2Epsilon == target.norm2Epsilon else {
      throw DiTError(
        file: name, .key("norm2_eps"), expected: "\(target.norm2Epsilon)", found: "\(origin.norm2Epsilon)")
    }
    guard origin.timeFrequencies == target.timeFrequencies else {
      throw DiTError(
        file: name, .key("time_frequencies"), expected: target.timeFrequencies.rawValue,
        found: origin.timeFrequencies.rawValue)
    }
    notes = transfer.table.parameters.compactMap(transfer.note) + transfer.notesOnDropped
    self.transfer = transfer
  }

  /// Takes up the state of torch's Adam in the training checkpoint at `path`, or says in a note why it starts anew; nothing
  /// where there is none.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - areAverages: whether the starting weights are a moving average of those that the moments belong to.
  /// - Throws: `DiTError` for a file that cannot be read.
  public mutating func takeUpAdam(of path: String, areAverages: Bool = false) throws {
    let anew = "Adam starts anew, not from the optimizer's state in \(path)"
    switch try TorchAdam.read(contentsOf: path) {
    case .none: break
    case .unknown(let reason): notes.append("\(anew): \(reason)")
    case .state(let state):
      let lacking = transfer.table.trainableParameters.first { !state.has($0.name, shape: $0.shape) }
      if !notes.isEmpty {
        notes.append("\(anew): tensors are not taken over as they were")
      } else if let lacking {
        notes.append("\(anew): it has no moments of \(lacking.name)")
      } else {
        moments = state
        let whose = areAverages ? "; its moments are the trained weights', from which --weights model starts" : ""
        notes.append("Adam goes on from the optimizer's state in \(path), after \(state.steps) steps\(whose)")
      }
    }
  }

  /// Writes the values into a flat buffer with the offsets of the target's parameter table. Memory of a mapped source is
  /// given back tensor by tensor, so that the values are not held twice.
  ///
  /// - Precondition: `flat` holds as many zeros as the table has elements.
  public func copy(to flat: MutableFloatSlice) {
    precondition(flat.count == transfer.table.elementCount, "\(flat.count) elements for another network")
    for parameter in transfer.table.parameters { transfer.fill(parameter, flat[parameter.range]) }
  }

  /// The values in new memory, flat with the offsets of the target's parameter table.
  public var flat: FloatSlice {
    let flat = MutableFloatSlice(zeros: transfer.table.elementCount)
    copy(to: flat)
    return flat.reading
  }
}

/// Where each tensor's values come from: the source, or new ones.
private struct Transfer {
  static let positions = "pos_embed"
  static let labels = "y_embedder.embedding_table.weight"
  static let sequences = ["text_embedder.", "image_embedder."]

  let source: Weights
  let origin, target: DiTConfiguration
  let table: ParameterTable
  let seed: UInt64

  private var hasSameGrid: Bool {
    origin.inputHeight == target.inputHeight && origin.inputWidth == target.inputWidth
  }

  /// Whether the source's position table is the target's.
  private var hasSamePositions: Bool {
    hasSameGrid && origin.position.hasTable && target.position.hasTable
      && origin.positionTokens == target.positionTokens && (!origin.position.isLearned || target.position.isLearned)
  }

  private var hasSameLabels: Bool {
    origin.numClasses == target.numClasses && origin.hasNullClass == target.hasNullClass
  }

  /// Whether a tensor's shape, or its being there, need not be the source's.
  func remakes(_ name: String) -> Bool {
    switch name {
    case Self.positions: !hasSamePositions
    case _ where name.hasSuffix(Self.labels): !hasSameLabels  // a block's own too
    default: Self.sequences.contains { name.hasPrefix($0) } && origin.sequence != target.sequence
    }
  }

  /// What was done with a tensor; nil where it is taken over as it was.
  func note(_ parameter: Parameter) -> String? {
    guard remakes(parameter.name) else { return nil }
    switch parameter.name {
    case Self.positions:
      let size = "\(target.inputHeight)×\(target.inputWidth)"
      return "\(parameter.name): \(resamplesPositions ? "resampled" : "computed") for the input size \(size)"
    case _ where parameter.name.hasSuffix(Self.labels):
      guard !keepsLabels(parameter) else {
        return "\(parameter.name): \(target.hasNullClass ? "a new null row was added" : "the null row was dropped")"
      }
      let null = target.hasNullClass ? " and the null class" : ""
      let before = origin.numClasses == 0 ? "no classes" : "\(origin.numClasses)"
      return "\(parameter.name): made anew for \(target.numClasses) classes\(null); the model had \(before)"
    default: return "\(parameter.name): made anew for another conditioning sequence"
    }
  }

  var notesOnDropped: [String] {
    guard !target.position.hasTable, origin.position.hasTable else { return [] }
    return ["\(Self.positions): left out, as positions are rotary"]
  }

  /// Whether the source's table goes on in the target's: a learned one, and one that is not the fixed one of its grid, which
  /// would be lost.
  private var resamplesPositions: Bool {
    guard let table = source[Self.positions] else { return false }
    return target.position.isLearned || !origin.position.isLearned && !origin.computes(positions: table)
  }

  /// Whether the classes' rows of a label table are the source's.
  private func keepsLabels(_ parameter: Parameter) -> Bool {
    origin.numClasses == target.numClasses && source[parameter.name] != nil
  }

  func fill(_ parameter: Parameter, _ values: MutableFloatSlice) {
    guard remakes(parameter.name) else {
      guard let known = source[parameter.name] else { return }
      values.copy(from: known.span)
      return known.releasePages()
    }
    switch parameter.name {
    case Self.positions: fillPositions(parameter, values)
    case _ where parameter.name.hasSuffix(Self.labels): fillLabels(parameter, values)
    default:
      let random = StreamPurpose.sequence.stream(parameter.offset, seed: seed)
      parameter.initialize(values, target, seed: random.seed, stream: random.stream)
    }
  }

  private func fillPositions(_ parameter: Parameter, _ values: MutableFloatSlice) {
    guard resamplesPositions, let known = source[parameter.name] else {
      return parameter.initialize(values, target, seed: 0, stream: 0)
    }
    let (old, new) = (origin.inputGrid, target.inputGrid)
    resamplePositions(
      output: values.mutableSpan, table: known.span, from: (old.rows, old.columns), to: (new.rows, new.columns),
      width: target.hiddenSize)
  }

  private func fillLabels(_ parameter: Parameter, _ values: MutableFloatSlice) {
    let random = StreamPurpose.labels.stream(0, seed: seed)
    parameter.initialize(values, target, seed: random.seed, stream: random.stream)
    guard keepsLabels(parameter), let known = source[parameter.name] else { return }
    let classes = target.numClasses * target.hiddenSize
    values[0..<classes].copy(from: known[0..<classes].span)
  }
}
