import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A directory that appears complete or not at all.
///
/// Files go to a temporary directory beside the target (`.dit-….tmp`); ``commit(replacing:)`` renames it to the target. Without
/// ``commit(replacing:)`` it is removed and the target is as before; only a killed process can leave one behind, which
/// goes when another process next writes there.
public struct AtomicDirectory: ~Copyable {
  /// The target as the caller named it.
  public let path: String
  /// Where its files are to be written until then.
  public let temporary: String
  private let target: String
  /// Of the temporary directory, locked.
  private let descriptor: Int32
  private var isCommitted = false

  /// Starts a directory that is to become `path`; those above it are made if need be.
  ///
  /// - Throws: `DiTError` when `path` is something other than a directory, or its parent cannot be written.
  public init(path: String) throws(DiTError) {
    try self.init(path: path, temporaryName: nil)
  }

  /// Starts a directory that is to become `path`; the temporary one beside it has a name of the caller's, who removes what
  /// killed processes leave.
  ///
  /// - Throws: `DiTError`, also when there is something of that name.
  package init(path: String, temporaryName: String) throws(DiTError) {
    try self.init(path: path, temporaryName: Optional(temporaryName))
  }

  /// - Parameter temporaryName: nil for one that nothing has.
  private init(path: String, temporaryName: String?) throws(DiTError) {
    if let status = try FileStatus(path: path), !status.isDirectory {
      throw DiTError(output: path, .refused(operation: "make a directory of", code: ENOTDIR))
    }
    let target = try Directory.resolved(path)
    let parent = Paths.parent(of: target)
    try Directory.create(parent)
    Leftovers.clear(in: parent)
    (temporary, descriptor) = try Self.create(in: parent, temporaryName, for: path)
    self.path = path
    self.target = target
  }

  /// Makes a directory in `parent` and locks it; returns its path and descriptor.
  private static func create(
    in parent: String, _ name: String?, for path: String
  ) throws(DiTError) -> (path: String, descriptor: Int32) {
    while true {
      let temporary = Paths.join(parent, name ?? Leftovers.name)
      if let descriptor = try create(temporary, for: path) { return (temporary, descriptor) }
    }
  }

  /// Makes a directory and locks it; returns its descriptor. nil where somebody who clears away has come between and
  /// removes it.
  private static func create(_ temporary: String, for path: String) throws(DiTError) -> Int32? {
    guard unsafe mkdir(FileName.terminated(temporary), 0o777) == 0 else {
      throw DiTError(output: path, .refused(operation: "create a directory beside", code: errno))
    }
    var descriptor: Int32
    repeat {
      descriptor = unsafe open(FileName.terminated(temporary), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    } while descriptor < 0 && errno == EINTR
    guard descriptor >= 0 else {
      if errno == ENOENT { return nil }
      let error = DiTError(output: path, refused: "open a directory beside")
      _ = unsafe rmdir(FileName.terminated(temporary))
      throw error
    }
    if case .held = AdvisoryLock(descriptor) {
    } else if let status = try FileStatus(path: temporary),
      status.identity == (try FileStatus(descriptor: descriptor, path: path).identity)
    {
      return descriptor
    }
    close(descriptor)
    return nil
  }

  deinit {
    close(descriptor)
    if !isCommitted { try? Directory.remove(temporary) }
  }

  /// Runs `body`, which writes files into ``temporary``: errors of them name the files that they were to become.
  package borrowing func writing<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as DiTError {
      guard let file = error.file, file.hasPrefix(temporary) else { throw error }
      throw error.about(file: path + file.dropFirst(temporary.count), error.subject.part)
    }
  }

  /// Puts the directory in its place. One that is there already is moved aside first and then removed: for a moment there
  /// is none, but never a part of one. Of a process that is killed in that moment both stay, under their temporary names.
  ///
  /// - Parameter replacing: false leaves a directory that is there and not empty.
  /// - Throws: `DiTError`; the directory that was there is then there again, but for a failure to flush its parent, after
  ///   which the new one is in place.
  public consuming func commit(replacing: Bool = true) throws(DiTError) {
    try Directory.flush(temporary, for: path)
    let old = temporary + Leftovers.oldSuffix
    let isReplacing = replacing ? try FileStatus(path: target) != nil : false
    if isReplacing, !Directory.systemRename(target, old) { throw DiTError(output: path, refused: "replace") }
    guard Directory.systemRename(temporary, target) else {
      let error = DiTError(output: path, refused: "put in place")
      if isReplacing { _ = Directory.systemRename(old, target) }
      throw error
    }
    isCommitted = true
    try Directory.flush(Paths.parent(of: target), for: path)
    if isReplacing { try? Directory.remove(old) }  // what stays goes when another process next writes here
  }
}
