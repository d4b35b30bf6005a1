import DiTFiles
import DiTModel
import DiTTensor

/// Keys of a config.json that a user states about a state dict: what its shapes do not tell, or that differs from the
/// published model.
public struct ModelKeys: Sendable {
  /// The file that states them.
  public let file: String
  /// The section's dotted name; empty at the root.
  let path: String
  /// Each key once.
  private(set) var members: [JSONMember]

  /// The keys of the file at `path`: its `model` part where it has one, with its `sampling` part in place of the model's,
  /// as in a training configuration; else the whole file. They are read when a state dict is there to go with them.
  ///
  /// - Throws: `DiTError`.
  public init(contentsOf path: String) throws {
    try self.init(JSONValue(contentsOf: path), file: path)
  }

  init(_ root: JSONValue, file: String) throws(DiTError) {
    self.file = file
    guard case .object(let members) = root else {
      throw DiTError(file: file, key: "", expected: "an object", found: root.summary)
    }
    guard let model = members.first(where: { $0.key == "model" })?.value else {
      (path, self.members) = ("", members)
      return
    }
    guard case .object(let inner) = model else {
      throw DiTError(file: file, key: "model", expected: "an object", found: model.summary)
    }
    if let other = members.first(where: { !["model", "training", "sampling"].contains($0.key) }) {
      throw DiTError(
        file: file, key: other.key, expected: "model, training and sampling", found: "an unknown key")
    }
    let sampling = members.first { $0.key == "sampling" }
    path = "model"
    self.members = inner.filter { sampling == nil || $0.key != "sampling" } + [sampling].compactMap(\.self)
  }

  func value(_ key: String) -> JSONValue? { members.first { $0.key == key }?.value }

  func integer(_ key: String) -> Int? {
    if case .integer(let number)? = value(key) { number } else { nil }
  }

  /// The family that is stated; nil where none is, or none of the known ones, which is refused when the keys are read.
  var family: ModelFamily? {
    if case .string(let name)? = value("family") { ModelFamily(rawValue: name) } else { nil }
  }

  func failure(_ key: String, expected: String, found: String) -> DiTError {
    DiTError(file: file, key: path.isEmpty ? key : "\(path).\(key)", expected: expected, found: found)
  }

  /// The configuration of these keys, and of `defaults` where they state nothing, in sections too.
  func configuration(defaults: [JSONMember]) throws(DiTError) -> CheckedConfiguration {
    let all = Self.members(members, defaults: defaults)
    return try CheckedConfiguration(reading: JSONObjectReader(.object(all), file: file, path: path))
  }

  private static func members(_ stated: [JSONMember], defaults: [JSONMember]) -> [JSONMember] {
    let others = Dictionary(defaults.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    let names = Set(stated.map(\.key))
    let merged = stated.map { member in
      guard case .object(let inner) = member.value, case .object(let other)? = others[member.key] else { return member }
      return JSONMember(member.key, .object(members(inner, defaults: other)))
    }
    return merged + defaults.filter { !names.contains($0.key) }
  }

  /// Those of the keys that fit the tensors of `file`: of a training configuration, which describes the model that is to
  /// be trained, what also holds for the one that it starts from.
  public func fitting(_ file: some TensorStore) -> ModelKeys {
    func has(_ prefix: String) -> Bool { file.keys.contains { $0.name.hasPrefix(prefix) } }
    let hasPositions = file.shape(of: PositionTable.name) != nil
    let rows = file.shape(of: StateDictShapes.labels)?.first
    let hidden = file.shape(of: StateDictShapes.patches)?.first
    let patch = file.shape(of: StateDictShapes.patches)?.last
    var fitting = self
    fitting.members = members.filter { member in
      switch member.key {
      case "model_type", "time_frequencies", "norm2_eps": true
      case "embedders": has("blocks.0.t_embedder.") == (member.value == .string(Embedders.perBlock.rawValue))
      case "conditioning":
        has("blocks.0.adaLN_modulation.")
          || [Conditioning.additive, .inContext].contains { member.value == .string($0.rawValue) }
      case "num_heads":
        if case .integer(let heads) = member.value, let hidden { heads > 0 && hidden % heads == 0 } else { false }
      case "num_classes", "class_dropout_prob":
        if let classes = integer("num_classes"), let rows { rows == classes || rows - 1 == classes } else { false }
      case "input_size": !hasPositions || tokens(member.value, patch: patch) == file.shape(of: PositionTable.name)?[1]
      case "position": hasPositions == (member.value != .string(PositionEncoding.rope.rawValue))
      case "text": has("text_embedder.")
      case "in_context_start": has("in_context_posemb")
      case "context_image": has("image_embedder.")
      case "attention": has("blocks.0.attn.noise_mask.") || !statesMask
      default: false
      }
    }
    return fitting
  }

  private var statesMask: Bool {
    guard case .object(let attention)? = value("attention") else { return false }
    return attention.contains { $0.key == "mask" && $0.value != .string("none") }
  }

  private func tokens(_ size: JSONValue, patch: Int?) -> Int? {
    guard let patch, patch > 0 else { return nil }
    switch size {
    case .integer(let side): return (side / patch).multipliedReportingOverflow(by: side / patch).partialValue
    case .array(let sides):
      guard sides.count == 2, case .integer(let height) = sides[0], case .integer(let width) = sides[1] else {
        return nil
      }
      return (height / patch).multipliedReportingOverflow(by: width / patch).partialValue
    default: return nil
    }
  }
}
