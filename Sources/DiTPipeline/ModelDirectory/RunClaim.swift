import DiTFiles
import DiTTensor

/// A training run's folder, which one process writes to: taken before its newest checkpoint is looked at and its data are
/// opened, so that nobody else is writing there meanwhile. It is given back with the last copy.
public struct RunClaim: Sendable {
  /// The name in the folder of the file that says which process writes there; gone when none does.
  public static let file = ".dit-run.lock"

  /// DIR.
  public var directory: String { lock.path }
  private let lock: FolderLock

  /// - Returns: nil when there is no such folder.
  /// - Throws: `DiTError` when another process has it, which the message names, or it cannot be written.
  public init?(_ directory: String) throws(DiTError) {
    guard try FileStatus(path: directory)?.isDirectory == true else { return nil }
    lock = try FolderLock(directory, name: Self.file)
  }

  /// Throws unless the folder is still where it was: not removed, moved or replaced.
  ///
  /// - Throws: `DiTError`.
  package func check() throws(DiTError) { try lock.check() }
}
