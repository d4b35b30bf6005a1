import DiTFiles
import DiTModel

/// model_index.json: what a pipeline consists of.
package struct PipelineIndex {
  let hasScheduler, hasAutoencoder: Bool
  private let labels: [JSONMember]
  let file: String

  init(contentsOf path: String) throws {
    try self.init(reading: JSONObjectReader(contentsOf: path))
  }

  /// The keys of a model_index.json. Finishes the reader.
  ///
  /// - Throws: ``ConfigurationFileError``.
  package init(reading reader: JSONObjectReader) throws(ConfigurationFileError) {
    var reader = reader
    file = reader.file
    let name = try reader.string("_class_name")
    guard name == "DiTPipeline" else {
      throw reader.failure("_class_name", expected: "\"DiTPipeline\"", found: name.map { "\"\($0)\"" } ?? "nothing")
    }
    for key in ["_diffusers_version", "_name_or_path"] { _ = reader.value(key) }
    guard try Self.part("transformer", of: DiTConfiguration.diffusersClasses, &reader) else {
      throw reader.failure("transformer", expected: "[\"diffusers\", \"DiTTransformer2DModel\"]", found: "nothing")
    }
    hasAutoencoder = try Self.part("vae", of: ["AutoencoderKL"], &reader)
    hasScheduler = try Self.part("scheduler", of: nil, &reader)  // its own file says which
    reader.remove("id2label", if: .null)
    let value = reader.value("id2label") ?? .object([])
    guard case .object(let labels) = value else {
      throw reader.failure("id2label", expected: "an object", found: value.summary)
    }
    self.labels = labels
    try reader.finish()
  }

  /// Whether a part is there: `["diffusers", class]`; not where it is left out or `[null, null]`.
  private static func part(
    _ key: String, of classes: [String]?, _ reader: inout JSONObjectReader
  ) throws(ConfigurationFileError) -> Bool {
    guard let value = reader.value(key), value != .null, value != .array([.null, .null]) else { return false }
    let expected = classes.map { $0.joined(separator: " or ") } ?? "a class"
    guard case .array(let pair) = value, pair.count == 2, pair[0] == .string("diffusers"),
      case .string(let name) = pair[1], classes?.contains(name) ?? true
    else {
      var found = value.summary
      if case .array(let pair) = value { found = "[\(pair.map(\.summary).joined(separator: ", "))]" }
      throw reader.failure(key, expected: "[\"diffusers\", \(expected)]", found: found)
    }
    return true
  }

  /// One name per class, its number where `id2label` has none; nil where it has none at all.
  package func names(_ classes: Int) throws(ConfigurationFileError) -> [String]? {
    guard !labels.isEmpty else { return nil }
    var names = (0..<classes).map { "\($0)" }
    for label in labels {
      guard let id = Int(label.key), 0..<classes ~= id else {
        throw ConfigurationFileError(
          file: file, key: "id2label.\(label.key)", expected: "a class, 0…\(classes - 1)", found: label.key)
      }
      guard case .string(let name) = label.value else {
        throw ConfigurationFileError(
          file: file, key: "id2label.\(label.key)", expected: "a string", found: label.value.summary)
      }
      names[id] = name
    }
    return names
  }
}
