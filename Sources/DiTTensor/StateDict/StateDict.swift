/// Compares the tensors that a model expects with those that a file holds.
public enum StateDict {
  /// A tensor's name and shape.
  public typealias Key = (name: String, shape: [Int])

  /// Checks that `file` holds exactly the `expected` tensors, each of its shape.
  ///
  /// - Parameters:
  ///   - file: the tensors that are there.
  ///   - expected: names and shapes.
  ///   - optional: expected names that may be absent.
  ///   - ignored: names in the file that are not expected and do no harm.
  /// - Throws: ``DiTError``, whose cause, a ``StateDictMismatch``, lists everything that differs.
  public static func check(
    _ file: some TensorStore, holds expected: [Key], optional: Set<String> = [], ignoring ignored: Set<String> = []
  ) throws(DiTError) {
    try check(file.keys, holds: expected, path: file.path, optional: optional, ignoring: ignored)
  }

  /// Checks that `found`, read from `path`, are exactly the `expected` tensors, each of its shape.
  ///
  /// - Parameters:
  ///   - found: names and shapes.
  ///   - expected: names and shapes.
  ///   - path: the file that errors name.
  ///   - optional: expected names that may be absent.
  ///   - ignored: names among `found` that are not expected and do no harm.
  /// - Throws: ``DiTError``, whose cause, a ``StateDictMismatch``, lists everything that differs, in the order of the two lists.
  public static func check(
    _ found: [Key], holds expected: [Key], path: String, optional: Set<String> = [],
    ignoring ignored: Set<String> = []
  ) throws(DiTError) {
    let shapes = Dictionary(found.map { (ExactName($0.name), $0.shape) }) { first, _ in first }
    let names = Set(expected.map { ExactName($0.name) })
    var mismatch = StateDictMismatch(path: path, missing: [], unexpected: [], misshaped: [])
    for (name, shape) in expected {
      if let other = shapes[ExactName(name)] {
        if other != shape { mismatch.misshaped.append(.init(name: name, expected: shape, found: other)) }
      } else if !optional.contains(name) {
        mismatch.missing.append(name)
      }
    }
    mismatch.unexpected = found.map(\.name).filter { !names.contains(ExactName($0)) && !ignored.contains($0) }
    if !mismatch.isEmpty { throw DiTError(mismatch) }
  }
}

/// Everything in which the tensors of a file differ from those expected.
public struct StateDictMismatch: Equatable, Sendable {
  /// A tensor whose shape differs.
  public struct Shape: Equatable, Sendable {
    /// The tensor.
    public let name: String
    /// The shape that the model needs.
    public let expected: [Int]
    /// The shape in the file.
    public let found: [Int]

    /// `name` was expected in one shape and found in another.
    public init(name: String, expected: [Int], found: [Int]) {
      self.name = name
      self.expected = expected
      self.found = found
    }
  }

  /// The file.
  public let path: String
  /// Expected tensors that the file lacks.
  public internal(set) var missing: [String]
  /// Tensors of the file that were not expected.
  public internal(set) var unexpected: [String]
  /// Tensors of another shape than expected.
  public internal(set) var misshaped: [Shape]

  var isEmpty: Bool { missing.isEmpty && unexpected.isEmpty && misshaped.isEmpty }

  /// One line with the count and the first names of each kind; the properties hold them all.
  var summary: String {
    let parts = [
      Self.part("missing", missing) { Message.oneLine($0) },
      Self.part("unexpected", unexpected) { Message.oneLine($0) },
      Self.part("of another shape", misshaped) {
        "\(Message.oneLine($0.name)) (expected \(Message.shape($0.expected)), found \(Message.shape($0.found)))"
      },
    ]
    return parts.compactMap(\.self).joined(separator: "; ")
  }

  private static func part<Item>(_ kind: String, _ items: [Item], _ text: (Item) -> String) -> String? {
    guard !items.isEmpty else { return nil }
    return "\(items.count) \(items.count == 1 ? "tensor" : "tensors") \(kind): \(Message.list(items, text))"
  }
}

extension DiTError {
  /// The tensors of a file are not those of a network.
  package init(_ mismatch: StateDictMismatch) {
    self.init(.content, Subject(file: mismatch.path), problem: mismatch.summary, cause: mismatch)
  }

  /// Everything in which tensors differ; nil where the error is about something else.
  package var mismatch: StateDictMismatch? { cause() }
}
