// Folders that appear complete or not at all, and the target's only raw memory and system calls.

import DiTFiles
import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

enum Folder {
  /// Makes the folder and those above it, durably, where they are missing.
  static func create(_ path: String) throws(FileError) {
    var isFolder: ObjCBool = false
    if unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) {
      guard isFolder.boolValue else {
        throw FileError(path: path, reason: .refused(operation: "make a folder of", code: ENOTDIR))
      }
      return
    }
    let parent = (path as NSString).deletingLastPathComponent
    if !parent.isEmpty, parent != path { try create(parent) }
    guard unsafe mkdir(path, 0o777) == 0 || errno == EEXIST else {
      throw FileError(path: path, reason: .refused(operation: "make the folder", code: errno))
    }
    try flush(parent)
  }

  /// The names in a folder, in order; none when there is no folder.
  static func names(_ path: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
  }

  /// Gives a finished folder another name in its own parent, durably. Nothing may have that name.
  static func rename(_ path: String, to target: String) throws(FileError) {
    guard Self.systemRename(path, target) == 0 else {
      throw FileError(path: target, reason: .refused(operation: "put in place", code: errno))
    }
    try flush((target as NSString).deletingLastPathComponent)
  }

  /// Waits until the names in a folder are on the disk.
  static func flush(_ path: String) throws(FileError) {
    let descriptor = unsafe open(path.isEmpty ? "." : path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path: path, reason: .refused(operation: "flush", code: errno)) }
    defer { close(descriptor) }
    // Some file systems cannot flush a folder and need not.
    guard fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP else {
      throw FileError(path: path, reason: .refused(operation: "flush", code: errno))
    }
  }

  /// Removes a folder and what is in it.
  static func remove(_ path: String) throws(FileError) {
    do {
      try FileManager.default.removeItem(atPath: path)
    } catch {
      throw FileError(path: path, reason: .refused(operation: "remove", code: errno))
    }
  }

  private static func systemRename(_ path: String, _ target: String) -> Int32 {
    #if canImport(Glibc)
      unsafe Glibc.rename(path, target)
    #else
      unsafe Darwin.rename(path, target)
    #endif
  }
}

extension RawSpan {
  /// A copy of the bytes.
  var array: [UInt8] {
    unsafe withUnsafeBytes { unsafe Array($0) }
  }
}
