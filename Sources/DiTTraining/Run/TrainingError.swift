import DiTFiles

/// Why a run cannot be started or resumed in a folder.
public enum TrainingError: Error, Equatable, Sendable, CustomStringConvertible {
  /// A new run would overwrite the checkpoints of another.
  case holdsCheckpoints(directory: String)
  /// There is nothing to resume.
  case noCheckpoint(directory: String)
  /// The checkpoint was made with other settings; `keys` names them, with both values.
  case differs(checkpoint: String, keys: [String])
  /// The checkpoint's parts contradict each other.
  case damaged(checkpoint: String, item: String, expected: String, found: String)

  /// A file of a run that goes on cannot be written.
  case cannotWrite(FileError)

  /// One line.
  public var description: String {
    switch self {
    case .holdsCheckpoints(let directory):
      "\(directory): holds the checkpoints of a run; resume it or choose another folder"
    case .noCheckpoint(let directory): "\(directory): no checkpoint to resume from"
    case .differs(let checkpoint, let keys):
      "\(checkpoint): cannot be resumed with other settings: \(keys.joined(separator: "; "))"
    case .cannotWrite(let error): error.description
    case .damaged(let checkpoint, let item, let expected, let found):
      "\(checkpoint): \(item): expected \(expected), found \(found)"
    }
  }
}
