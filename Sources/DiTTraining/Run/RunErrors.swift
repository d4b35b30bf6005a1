import DiTTensor

// Why a run cannot be started or resumed in a folder.

extension DiTError {
  /// A new run would overwrite the checkpoints of another.
  package static func holdsCheckpoints(directory: String) -> DiTError {
    DiTError(
      .option, Subject(file: directory),
      problem: "holds the checkpoints of a run; resume it or choose another folder")
  }

  /// There is nothing to resume.
  package static func noCheckpoint(directory: String) -> DiTError {
    DiTError(.content, Subject(file: directory), problem: "no checkpoint to resume from")
  }

  /// The checkpoint was made with other settings; `keys` names them, with both values.
  static func differs(checkpoint: String, keys: [String]) -> DiTError {
    DiTError(
      .option, Subject(file: checkpoint),
      problem: "cannot be resumed with other settings: \(keys.joined(separator: "; "))")
  }
}
