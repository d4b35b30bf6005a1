import Foundation

#if canImport(Glibc)
  import Glibc
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
    let status = try FileStatus(path: path)
    if let status, status.kind != "a directory" {
      throw FileError(path: path, reason: .refused(operation: "make a directory of", code: ENOTDIR))
    }
    let absolute = URL(filePath: path).resolvingSymlinksInPath().path(percentEncoded: false)
    let target = absolute.count > 1 && absolute.hasSuffix("/") ? String(absolute.dropLast()) : absolute
    let parent = (target as NSString).deletingLastPathComponent
    let name = ".dit-\(String(UInt64.random(in: .min ... .max), radix: 16)).tmp"
    let temporary = "\(parent == "/" ? "" : parent)/\(name)"
    do {
      try FileManager.default.createDirectory(atPath: temporary, withIntermediateDirectories: true)
    } catch {
      throw FileError(path: path, reason: .refused(operation: "create a directory beside", code: Self.number(error)))
    }
    self.path = path
    self.target = target
    self.temporary = temporary
  }

  deinit {
    if !isCommitted { try? FileManager.default.removeItem(atPath: temporary) }
  }

  /// Puts the directory in its place. One that is there already is moved aside first and then removed: for a moment there
  /// is none, but never a part of one.
  ///
  /// - Throws: ``FileError``; the directory that was there is then there again.
  public consuming func commit() throws(FileError) {
    try Self.flush(temporary, for: path)
    let parent = (target as NSString).deletingLastPathComponent
    let old = temporary + ".old"
    let isReplacing = FileManager.default.fileExists(atPath: target)
    if isReplacing, !Self.move(target, to: old) { throw FileError(path: path, refused: "replace") }
    guard Self.move(temporary, to: target) else {
      let error = FileError(path: path, refused: "put in place")
      if isReplacing { _ = Self.move(old, to: target) }
      throw error
    }
    isCommitted = true
    try Self.flush(parent, for: path)
    guard isReplacing else { return }
    do {
      try FileManager.default.removeItem(atPath: old)
    } catch {
      throw FileError(path: old, reason: .refused(operation: "remove", code: Self.number(error)))
    }
  }

  private static func move(_ path: String, to target: String) -> Bool { unsafe rename(path, target) == 0 }

  /// Waits until the names in a directory are on the disk.
  private static func flush(_ directory: String, for path: String) throws(FileError) {
    let descriptor = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path: path, refused: "flush the directory of") }
    defer { close(descriptor) }
    // Some file systems cannot flush a directory and need not.
    guard fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP else {
      throw FileError(path: path, refused: "flush the directory of")
    }
  }

  /// The system's error number under a Foundation error.
  private static func number(_ error: any Error) -> Int32 {
    let cause = (error as? POSIXError) ?? (error as? CocoaError)?.underlying as? POSIXError
    return (cause?.code ?? .EIO).rawValue
  }
}
