import DiTFiles
import DiTModel
import DiTTensor

/// model_index.json: what a pipeline consists of.
///
/// A pipeline is told by its transformer: one of another class than DiTPipeline, such as somebody's own, is read as one
/// where it has a DiT. Other components (a safety_checker, a text_encoder) are nothing to a DiT and are not opened.
package struct PipelineIndex {
  private static let className = "DiTPipeline"

  let hasScheduler, hasAutoencoder: Bool
  private let labels: [JSONMember]
  let file: String
  /// What was passed over, one line each.
  package let notes: [String]

  init(contentsOf path: String) throws {
    try self.init(reading: JSONObjectReader(contentsOf: path))
  }

  /// The keys of a model_index.json.
  ///
  /// - Throws: `DiTError`.
  package init(reading reader: JSONObjectReader) throws(DiTError) {
    var reader = reader
    file = reader.file
    let name = try Self.pipelineClass(&reader)
    do throws(DiTError) {
      guard try Self.part("transformer", of: DiTConfiguration.diffusersClasses, &reader) else {
        throw reader.failure(
          "transformer", expected: Self.expected(DiTConfiguration.diffusersClasses), found: "nothing")
      }
    } catch {
      guard name == Self.className else {
        throw reader.failure(
          "_class_name", expected: "\"\(Self.className)\", or another with \(Self.expected(["DiTTransformer2DModel"]))",
          found: JSONValue.string(name).summary)
      }
      throw error
    }
    hasAutoencoder = try Self.part("vae", of: ["AutoencoderKL"], &reader)
    hasScheduler = try Self.part("scheduler", of: nil, &reader)  // its own file says which
    reader.remove("id2label", if: .null)
    let value = reader.value("id2label") ?? .object([])
    guard case .object(let labels) = value else {
      throw reader.failure("id2label", expected: "an object", found: value.summary)
    }
    self.labels = labels
    notes = Self.notes(name, &reader)
  }

  /// `_class_name`: a class, or of a pipeline with code of its own `[module, class]`.
  private static func pipelineClass(_ reader: inout JSONObjectReader) throws(DiTError) -> String {
    let value = reader.value("_class_name")
    switch value {
    case .string(let name): return name
    case .array(let pair):
      if pair.count == 2, case .string = pair[0], case .string(let name) = pair[1] { return name }
    default: break
    }
    throw reader.failure("_class_name", expected: "\"\(className)\"", found: value?.summary ?? "nothing")
  }

  /// Takes the keys that are left: components that are there, and what a pipeline of another class remembers.
  private static func notes(_ name: String, _ reader: inout JSONObjectReader) -> [String] {
    var notes: [String] = []
    if name != className {
      notes.append(
        "\(reader.file): \(JSONObjectReader.list([name])) is read as diffusers' \(className), as its transformer is a DiT"
      )
    }
    let keys = reader.rest().filter { member in
      !member.key.hasPrefix("_") && member.value != .null && member.value != .array([.null, .null])
    }.map(\.key)
    if !keys.isEmpty {
      notes.append(
        "\(reader.file): \(JSONObjectReader.list(keys)) \(keys.count == 1 ? "is" : "are") ignored, "
          + "as a DiT needs transformer, scheduler and vae alone")
    }
    return notes
  }

  private static func expected(_ classes: [String]?) -> String {
    "[\"diffusers\", \(classes.map { $0.joined(separator: " or ") } ?? "a class")]"
  }

  /// Whether a part is there: `["diffusers", class]`; not where it is left out or `[null, null]`.
  private static func part(
    _ key: String, of classes: [String]?, _ reader: inout JSONObjectReader
  ) throws(DiTError) -> Bool {
    guard let value = reader.value(key), value != .null, value != .array([.null, .null]) else { return false }
    guard case .array(let pair) = value, pair.count == 2, pair[0] == .string("diffusers"),
      case .string(let name) = pair[1], classes?.contains(name) ?? true
    else {
      var found = value.summary
      if case .array(let pair) = value { found = "[\(pair.prefix(4).map(\.summary).joined(separator: ", "))]" }
      throw reader.failure(key, expected: expected(classes), found: found)
    }
    return true
  }

  /// One name per class, its number where `id2label` has none; nil where it names none of them. Names of classes that the
  /// network does not have, as a directory keeps them that was fine-tuned to fewer, are passed over.
  ///
  /// - Parameter notes: gets a line that says which.
  package func names(_ classes: Int, notes: inout [String]) throws(DiTError) -> [String]? {
    var known: [Int: String] = [:]
    var others: [Int] = []
    for label in labels {
      guard let id = Int(label.key) else {
        throw DiTError(
          file: file, key: "id2label.\(label.key)", expected: "a class, such as 0", found: label.key)
      }
      guard case .string(let name) = label.value else {
        throw DiTError(
          file: file, key: "id2label.\(label.key)", expected: "a string", found: label.value.summary)
      }
      if 0..<classes ~= id { known[id] = name } else { others.append(id) }
    }
    if let first = others.min(), let last = others.max() {
      let which = first == last ? "class \(first)" : "\(others.count) classes, \(first) to \(last),"
      notes.append("\(file): id2label: \(which) ignored, as the network has the classes 0 to \(classes - 1)")
    }
    guard !known.isEmpty else { return nil }
    return (0..<classes).map { known[$0] ?? "\($0)" }
  }
}
