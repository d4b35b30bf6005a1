#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A directory that appears complete or not at all.
///
/// Files go to a temporary directory beside the target (`.dit-….tmp`); ``commit()`` renames it to the target. Without
/// ``commit()`` it is removed and the target is as before; only a killed process can leave one behind.
public struct AtomicDirectory: ~Copyable {
  /// The target as the caller named it.
  public let path: String
  /// Where its files are to be written until then.
  public let temporary: String
  private let target: String
  private var isCommitted = false

  /// Starts a directory that is to become `path`; those above it are made if need be.
  ///
  /// - Throws: ``FileError`` when `path` is something other than a directory, or its parent cannot be written.
  public init(path: String) throws(FileError) {
    try self.init(path: path, temporaryName: AtomicFile.temporaryName)
  }

  /// Starts a directory that is to become `path`; the temporary one beside it has a name of the caller's, who removes what
  /// killed processes leave.
  ///
  /// - Throws: ``FileError``, also when there is something of that name.
  package init(path: String, temporaryName: String) throws(FileError) {
    if let status = try FileStatus(path: path), !status.isDirectory {
      throw FileError(path: path, reason: .refused(operation: "make a directory of", code: ENOTDIR))
    }
    let target = try Directory.resolved(path)
    let parent = Paths.parent(of: target)
    let temporary = Paths.join(parent, temporaryName)
    try Directory.create(parent)
    guard unsafe mkdir(FileName.terminated(temporary), 0o777) == 0 else {
      throw FileError(path: path, reason: .refused(operation: "create a directory beside", code: errno))
    }
    self.path = path
    self.target = target
    self.temporary = temporary
  }

  deinit {
    if !isCommitted { try? Directory.remove(temporary) }
  }

  /// Puts the directory in its place. One that is there already is moved aside first and then removed: for a moment there
  /// is none, but never a part of one.
  ///
  /// - Throws: ``FileError``; the directory that was there is then there again.
  public consuming func commit() throws(FileError) {
    try Directory.flush(temporary, for: path)
    let old = temporary + ".old"
    let isReplacing = try FileStatus(path: target) != nil
    if isReplacing, !Directory.systemRename(target, old) { throw FileError(path: path, refused: "replace") }
    guard Directory.systemRename(temporary, target) else {
      let error = FileError(path: path, refused: "put in place")
      if isReplacing { _ = Directory.systemRename(old, target) }
      throw error
    }
    isCommitted = true
    try Directory.flush(Paths.parent(of: target), for: path)
    if isReplacing { try Directory.remove(old) }
  }
}
