import DiTDiffusion
import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor

/// What training data say of their classes, and how a model's classes follow from it.
public struct DataClasses: Equatable, Sendable {
  /// The name that errors give the data.
  public let source: String
  /// One name per class; nil where the data name none.
  public let names: [String]?
  /// How many classes the data say they have; nil where they only have labels, or none.
  public let statedCount: Int?
  /// How many classes there are by names or labels: one more than the largest label where there are no names; nil without
  /// labels.
  public let count: Int?

  public init(source: String, names: [String]?, statedCount: Int?, count: Int?) {
    (self.source, self.names, self.statedCount, self.count) = (source, names, statedCount, count)
  }

  /// Those of a data set.
  public init(_ data: Dataset) {
    self.init(
      source: data.name, names: data.classNames, statedCount: data.classNames?.count,
      count: data.classNames?.count ?? data.labels?.max().map { $0 + 1 })
  }

  /// Adds the keys of a configuration's `model` that follow from the data where it leaves them out: `num_classes`, by labels alone one
  /// more than the largest, and `class_names`.
  public func completed(_ model: JSONValue) -> JSONValue {
    guard case .object(var members) = model else { return model }
    func stated(_ key: String) -> JSONValue? { members.first { $0.key == key }?.value }
    if let count = statedCount ?? count, stated("num_classes") == nil {
      members.append(JSONMember("num_classes", .integer(count)))
    }
    if let names, stated("class_names") == nil, [nil, .integer(names.count)].contains(stated("num_classes")) {
      members.append(JSONMember("class_names", .array(names.map { .string($0) })))
    }
    return .object(members)
  }

  /// Throws where the classes of a configuration's `model` contradict the data's. A model without classes takes any data;
  /// names may be other words for the same classes, but not the same words in another order.
  ///
  /// - Throws: `DiTError` naming the key in `file`.
  public func check(_ model: ModelConfiguration, file: String) throws(DiTError) {
    let classes = model.network.numClasses
    guard let statedCount, classes > 0 else { return }
    guard classes == statedCount else {
      throw DiTError(
        file: file, key: "model.num_classes",
        expected: statedCount == 0
          ? "0, as \(source) has no class folders" : "\(statedCount), the classes of \(source), or 0",
        found: "\(classes)")
    }
    if let names, let given = model.classNames, !Self.isSame(names, given),
      Set(names.map { ExactName($0) }) == Set(given.map { ExactName($0) })
    {
      throw DiTError(
        file: file, key: "model.class_names", expected: "the order of \(source): \(names.joined(separator: ", "))",
        found: given.joined(separator: ", "))
    }
  }

  /// Whether names are equal by their bytes.
  private static func isSame(_ a: [String], _ b: [String]) -> Bool {
    a.elementsEqual(b) { ExactName($0) == ExactName($1) }
  }

  /// Gives a model to start from the classes of the data, where they say any.
  ///
  /// - Returns: notes for the user, one per line.
  public func apply(to model: inout ModelConfiguration) -> [String] {
    guard let count else {
      if statedCount == 0 {
        (model.network.numClasses, model.classNames) = (0, nil)
        model.sampling.guidance = Guidance(scale: 1)
      }
      return []
    }
    if count != model.network.numClasses {
      (model.network.numClasses, model.classNames) = (count, names)
      return []
    }
    guard let names, model.classNames.map({ Self.isSame(names, $0) }) != true else { return [] }
    let old = model.classNames
    model.classNames = names
    return old == nil ? [] : ["class names: those of \(source) take the place of the model's; their weights are kept"]
  }
}
