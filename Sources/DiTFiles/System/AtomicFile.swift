import DiTTensor
import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file that appears complete or not at all.
///
/// Bytes go to a temporary file in the target's directory (`.dit-….tmp`). ``commit()`` flushes it to the disk, renames
/// it over the target, and flushes the directory, so that after a crash the path leads to the old contents or to all of
/// the new. Without ``commit()`` the temporary file is removed and the target is as before; only a killed process can
/// leave one behind, which goes when another process next writes a file there.
///
/// A symbolic link is followed: the file it leads to is replaced. A file that is replaced passes on its permissions.
public struct AtomicFile: ~Copyable {
  /// The target as the caller named it.
  public let path: String
  private let target: String
  private let directory: String
  private let temporaryPath: String
  /// Its bytes, as the system takes them.
  private let temporary: [CChar]
  private let descriptor: Int32
  /// The number of the open file.
  var number: Int32 { descriptor }
  private var isCommitted = false

  /// Starts a file that is to become `path`.
  ///
  /// - Throws: `DiTError` when `path` is something other than a regular file, or its directory cannot be written.
  public init(path: String) throws(DiTError) {
    let status = try FileStatus(path: path)
    if let status, !status.isRegular { throw DiTError(output: path, .notRegular(found: status.kind)) }
    let target = status == nil ? path : Self.resolved(path)
    let slash = target.utf8.lastIndex(of: UInt8(ascii: "/"))
    let directory = slash.map { $0 == target.startIndex ? "/" : String(target[..<$0]) } ?? "."
    guard slash.map({ target.utf8.index(after: $0) }) ?? target.startIndex != target.endIndex else {
      throw DiTError(output: path, .notRegular(found: "no file name"))
    }
    (temporaryPath, descriptor) = try Self.createTemporary(in: directory, for: path)
    temporary = FileName.terminated(temporaryPath)
    self.path = path
    self.target = target
    self.directory = directory
    if let status { fchmod(descriptor, status.permissions & 0o777) }
  }

  deinit {
    close(descriptor)
    if !isCommitted { unsafe unlink(temporary) }
  }

  /// Appends `bytes`.
  ///
  /// - Throws: `DiTError`, as when the disk is full.
  public func write(_ bytes: Span<UInt8>) throws(DiTError) {
    try Self.write(bytes, to: descriptor, path: path)
  }

  /// Waits until what was written is on the disk; ``commit()`` does so too. Of several files that belong together, all are
  /// written and flushed before the first is put in its place, so that a full disk leaves the old ones.
  ///
  /// - Throws: `DiTError`.
  public func flush() throws(DiTError) {
    while fsync(descriptor) != 0 {
      guard errno == EINTR else { throw DiTError(output: path, refused: "flush") }
    }
  }

  /// Puts the file in its place.
  ///
  /// - Throws: `DiTError`. When it is the directory that cannot be flushed, the new file is in its place and complete,
  ///   but a crash of the machine might bring back the old one.
  public consuming func commit() throws(DiTError) {
    try flush()
    guard Directory.systemRename(temporaryPath, target) else { throw DiTError(output: path, refused: "replace") }
    isCommitted = true
    try Directory.flush(directory, for: path)
  }

  /// Writes a file in one go: `body` appends, and unless it throws, the file is put in its place.
  ///
  /// - Throws: `DiTError`, and what `body` throws.
  public static func write(to path: String, _ body: (borrowing AtomicFile) throws -> Void) throws {
    let file = try AtomicFile(path: path)
    try body(file)
    try file.commit()
  }

  /// Writes `contents` to the file at `path`.
  ///
  /// - Throws: `DiTError`.
  public static func write(_ contents: Data, to path: String) throws {
    try write(to: path) { file in try file.write(contents.span) }
  }

  /// Writes `text` in UTF-8 to the file at `path`.
  ///
  /// - Throws: `DiTError`.
  public static func write(_ text: String, to path: String) throws {
    try write(to: path) { file in try file.write(Array(text.utf8).span) }
  }

  // MARK: System calls

  /// Appends `bytes` to an open file; errors name `path`.
  package static func write(_ bytes: Span<UInt8>, to descriptor: Int32, path: String) throws(DiTError) {
    var written = 0
    while written < bytes.count {
      let rest = bytes.extracting(written..<bytes.count)
      let count = unsafe rest.withUnsafeBufferPointer { unsafe systemWrite(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw DiTError(output: path, refused: "write") }
      written += count
    }
  }

  /// A new file of a name that no other has (`.dit-….tmp`), open to read and write and locked; errors name `path`. The
  /// first in a directory clears away what killed processes left there.
  static func createTemporary(
    in directory: String, for path: String
  ) throws(DiTError) -> (path: String, descriptor: Int32) {
    Leftovers.clear(in: directory)
    while true {
      let name = Paths.join(directory, Leftovers.name)
      let descriptor = unsafe open(FileName.terminated(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      guard descriptor >= 0 else {
        if errno == EEXIST || errno == EINTR { continue }
        // Also where there is no directory: what is missing is not the file.
        throw DiTError(output: path, .refused(operation: "create a file in the directory of", code: errno))
      }
      // Somebody who clears away may have come between making and locking it.
      if case .held = AdvisoryLock(descriptor) {} else if linkCount(descriptor) != 0 { return (name, descriptor) }
      close(descriptor)
    }
  }

  /// How many names an open file has; nil where the system does not say.
  private static func linkCount(_ descriptor: Int32) -> Int? {
    var status = stat()
    return unsafe fstat(descriptor, &status) == 0 ? Int(status.st_nlink) : nil
  }

  /// `path` with symbolic links followed.
  private static func resolved(_ path: String) -> String {
    guard let real = unsafe realpath(FileName.terminated(path), nil) else { return path }
    defer { unsafe free(real) }
    return unsafe FileName.string(terminated: real)
  }
}

/// `write` of the system, which the methods above hide.
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
  unsafe write(descriptor, bytes, count)
}
