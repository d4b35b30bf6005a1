import DiTTensor

/// Why a run cannot be started or resumed in a folder.
public enum RunProblem: Equatable, Sendable {
  /// A new run would overwrite the checkpoints of another.
  case holdsCheckpoints
  /// There is nothing to resume.
  case noCheckpoint
  /// The checkpoint was made with other settings, named with both values.
  case differs(keys: [String])
}

extension DiTError {
  /// The run's folder or checkpoint at `path` has a problem.
  package init(run path: String, _ problem: RunProblem) {
    let (kind, words): (Kind, String) =
      switch problem {
      case .holdsCheckpoints: (.option, "holds the checkpoints of a run; resume it or choose another folder")
      case .noCheckpoint: (.content, "no checkpoint to resume from")
      case .differs(let keys): (.option, "cannot be resumed with other settings: \(keys.joined(separator: "; "))")
      }
    self.init(kind, Subject(file: path), problem: words, cause: problem)
  }
}
