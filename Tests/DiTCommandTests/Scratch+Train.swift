import Foundation

extension Scratch {
  /// A model of a few thousand weights, and a run of it whose settings `training` overrides.
  static func training(_ training: [String: String] = [:]) -> String {
    var settings = [
      "steps": "12", "batch": "8", "learning_rate": "0.001", "warmup_steps": "2", "flip": "false",
      "validation_modulus": "5", "validate_every": "6", "checkpoint_every": "5", "sample_every": "0", "log_every": "1",
    ]
    settings.merge(training) { $1 }
    let section = settings.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }.joined(separator: ", ")
    return """
      { "model": { "input_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2,
                   "num_classes": 10 },
        "training": { \(section) },
        "sampling": { "steps": 5, "guidance": 1.5 } }
      """
  }

  /// Trains in the folder `name`.
  func train(
    _ name: String, _ arguments: [String] = [], training: [String: String] = [:], data: String = "digits"
  ) async throws -> Tool.Result {
    let config = try write(Self.training(training), to: "\(name).json")
    return try await succeed(["train", "--data", data, "--config", config, "--out", path(name)] + arguments)
  }

  func log(_ name: String) -> [[String: Any]] {
    text("\(name)/log.jsonl").split(separator: "\n").compactMap {
      try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
    }
  }
}
