import DiTFiles
import DiTTensor

// Keys that diffusers' classes do not know. `from_pretrained` warns and passes over them ("… were passed to
// DiTTransformer2DModel, but are not expected and will be ignored"); of those that begin with _ it says nothing.

extension JSONObjectReader {
  /// What EMAModel.save_pretrained writes beside a model's keys: how the average was taken.
  package static let averageKeys: Set<String> = [
    "decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup",
  ]

  /// Takes the keys that are left of the config.json of a model of diffusers, and finishes the reader.
  ///
  /// - Returns: a note that names them; nil where there are none but those that begin with _ and an average's.
  /// - Throws: `DiTError` for `quantization_config`, with which the tensors are no weights.
  package mutating func passOver(forClass name: String) throws(DiTError) -> String? {
    remove("quantization_config", if: .null)
    if let value = value("quantization_config") {
      throw failure("quantization_config", expected: "none, as quantized weights are not read", found: value.summary)
    }
    let keys = rest().map(\.key).filter { !$0.hasPrefix("_") && !Self.averageKeys.contains($0) }
    guard !keys.isEmpty else { return nil }
    let (verb, pronoun) = keys.count == 1 ? ("is no key", "it") : ("are no keys", "them")
    return "\(file): \(Self.list(keys)) \(verb) of diffusers' \(name), which ignores \(pronoun)"
  }

  /// At most eight names in one line.
  package static func list(_ names: [String]) -> String {
    let shown = names.prefix(8).map { name in
      name.isEmpty || name.contains { $0.isWhitespace || $0.isNewline } ? JSONValue.string(name).summary : name
    }
    let more = names.count - shown.count
    return shown.joined(separator: ", ") + (more > 0 ? " and \(more) more" : "")
  }
}
