// Weights to start from, taken over from another model.

import DiTCheckpoint
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
  /// row that the source lacks, that row alone; for another input size the fixed position table is computed. All else
  /// must have the target's names and shapes, and the same number of heads.
  ///
  /// - Parameters:
  ///   - name: what errors call the source, for example its path.
  ///   - seed: of what is made anew.
  /// - Throws: `StateDictMismatch` with every difference, `ModelFileError` for another number of heads.
  public init(
    from source: Weights, of origin: DiTConfiguration, for target: DiTConfiguration, seed: Int, name: String
  ) throws {
    let table = ParameterTable(target)
    var transfer = Transfer(source: source, origin: origin, target: target, flat: Slice(zeros: table.elementCount))
    let made = transfer.remade(table)
    let key = { (parameter: Parameter) in (name: parameter.name, shape: parameter.shape) }
    try StateDict.check(
      source.table.parameters.filter { !made.contains($0.name) }.map(key),
      holds: table.parameters.filter { !made.contains($0.name) }.map(key), path: name)
    guard origin.numHeads == target.numHeads else {
      throw ModelFileError(
        file: name, item: "heads", expected: "\(target.numHeads)", found: "\(origin.numHeads)")
    }
    for parameter in table.parameters { transfer.fill(parameter, seed: UInt64(bitPattern: Int64(seed))) }
    flat = transfer.flat
    notes = transfer.notes
  }
}

/// One tensor after the other, from the source or anew.
private struct Transfer {
  static let positions = "pos_embed"
  static let labels = "y_embedder.embedding_table.weight"

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

  private var hasSameLabels: Bool {
    origin.numClasses == target.numClasses && origin.hasNullClass == target.hasNullClass
  }

  /// The names whose shape need not be the source's.
  func remade(_ table: ParameterTable) -> Set<String> {
    var names: Set<String> = []
    if !hasSameGrid { names.insert(Self.positions) }
    if !hasSameLabels { names.insert(Self.labels) }
    return names
  }

  mutating func fill(_ parameter: Parameter, seed: UInt64) {
    let values = flat[parameter.range]
    if parameter.name == Self.positions, !hasSameGrid {
      parameter.initialise(values, target, seed: seed, stream: 0)
      notes.append("\(parameter.name): computed for the input size \(target.inputHeight)×\(target.inputWidth)")
    } else if parameter.name == Self.labels, !hasSameLabels {
      fillLabels(parameter, values, seed: seed)
    } else if let known = source[parameter.name] {
      values.copy(from: known.span)
    }
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
