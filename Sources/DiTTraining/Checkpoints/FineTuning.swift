// Weights to start from, taken over from another model.

import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor

/// The first weights of a run, and what a person should know about them.
public struct StartingWeights: Sendable {
  /// Flat, with the offsets of the target's parameter table.
  public let flat: Slice
  /// One line for everything that was not taken over as it was.
  public let notes: [String]

  /// The values of `source`, whose own configuration is `origin`, for a network `target`.
  ///
  /// With another number of classes the label table is made anew, the null row too; with the same classes and a null
  /// row that the source lacks, that row alone; for another input size a fixed position table is computed and a learned one
  /// resampled; for another conditioning sequence its tensors are made anew. All else must have the target's names and
  /// shapes, and the same number of heads, time frequencies and
  /// ε of the second LayerNorms.
  ///
  /// - Parameters:
  ///   - name: what errors call the source, for example its path.
  ///   - seed: of what is made anew.
  /// - Throws: `StateDictMismatch` with every difference, `ModelFileError` for another number of heads or other time
  ///   frequencies.
  public init(
    from source: Weights, of origin: DiTConfiguration, for target: DiTConfiguration, seed: Int, name: String
  ) throws {
    let table = ParameterTable(target)
    var transfer = Transfer(source: source, origin: origin, target: target, flat: Slice(zeros: table.elementCount))
    let isMade = { (parameter: Parameter) in transfer.remakes(parameter.name) }
    let key = { (parameter: Parameter) in (name: parameter.name, shape: parameter.shape) }
    try StateDict.check(
      source.table.parameters.filter { !isMade($0) }.map(key),
      holds: table.parameters.filter { !isMade($0) }.map(key), path: name)
    guard origin.numHeads == target.numHeads else {
      throw ModelFileError(
        file: name, item: "heads", expected: "\(target.numHeads)", found: "\(origin.numHeads)")
    }
    guard origin.norm2Epsilon == target.norm2Epsilon else {
      throw ModelFileError(
        file: name, item: "norm2_eps", expected: "\(target.norm2Epsilon)", found: "\(origin.norm2Epsilon)")
    }
    guard origin.timeFrequencies == target.timeFrequencies else {
      throw ModelFileError(
        file: name, item: "time_frequencies", expected: target.timeFrequencies.rawValue,
        found: origin.timeFrequencies.rawValue)
    }
    for parameter in table.parameters { transfer.fill(parameter, seed: UInt64(bitPattern: Int64(seed))) }
    transfer.noteDroppedPositions()
    flat = transfer.flat
    notes = transfer.notes
  }
}

/// One tensor after the other, from the source or anew.
private struct Transfer {
  static let positions = "pos_embed"
  static let labels = "y_embedder.embedding_table.weight"
  static let sequences = ["text_embedder.", "image_embedder."]

  let source: Weights
  let origin, target: DiTConfiguration
  let flat: Slice
  var notes: [String] = []

  init(source: Weights, origin: DiTConfiguration, target: DiTConfiguration, flat: Slice) {
    self.source = source
    self.origin = origin
    self.target = target
    self.flat = flat
  }

  private var hasSameGrid: Bool {
    origin.inputHeight == target.inputHeight && origin.inputWidth == target.inputWidth
  }

  /// Whether the source's position table is the target's.
  private var hasSamePositions: Bool {
    hasSameGrid && (origin.position == target.position || (origin.position, target.position) == (.sincos, .learned))
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

  mutating func fill(_ parameter: Parameter, seed: UInt64) {
    let values = flat[parameter.range]
    guard remakes(parameter.name) else {
      if let known = source[parameter.name] { values.copy(from: known.span) }
      return
    }
    switch parameter.name {
    case Self.positions: fillPositions(parameter, values)
    case _ where parameter.name.hasSuffix(Self.labels): fillLabels(parameter, values, seed: seed)
    default:
      let random = StreamPurpose.sequence.stream(parameter.offset, seed: seed)
      parameter.initialise(values, target, seed: random.seed, stream: random.stream)
      notes.append("\(parameter.name): made anew for another conditioning sequence")
    }
  }

  private mutating func fillPositions(_ parameter: Parameter, _ values: Slice) {
    let size = "\(target.inputHeight)×\(target.inputWidth)"
    guard target.position == .learned, let known = source[parameter.name] else {
      parameter.initialise(values, target, seed: 0, stream: 0)
      notes.append("\(parameter.name): computed for the input size \(size)")
      return
    }
    let (old, new) = (origin.inputGrid, target.inputGrid)
    resamplePositions(
      output: values.mutableSpan, table: known.span, from: (old.rows, old.columns), to: (new.rows, new.columns),
      width: target.hiddenSize)
    notes.append("\(parameter.name): resampled for the input size \(size)")
  }

  mutating func noteDroppedPositions() {
    guard target.position == .rope, origin.position != .rope else { return }
    notes.append("\(Self.positions): left out, as positions are rotary")
  }

  private mutating func fillLabels(_ parameter: Parameter, _ values: Slice, seed: UInt64) {
    let random = StreamPurpose.labels.stream(0, seed: seed)
    parameter.initialise(values, target, seed: random.seed, stream: random.stream)
    guard origin.numClasses == target.numClasses, let known = source[parameter.name] else {
      let null = target.hasNullClass ? " and the null class" : ""
      let before = origin.numClasses == 0 ? "no classes" : "\(origin.numClasses)"
      notes.append("\(parameter.name): made anew for \(target.numClasses) classes\(null); the model had \(before)")
      return
    }
    let classes = target.numClasses * target.hiddenSize
    values[0..<classes].copy(from: known[0..<classes].span)
    notes.append("\(parameter.name): \(target.hasNullClass ? "a new null row was added" : "the null row was dropped")")
  }
}
