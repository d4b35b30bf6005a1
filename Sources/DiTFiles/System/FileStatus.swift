import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What the system says about a file.
package struct FileStatus {
  /// As in `"a directory"`.
  package let kind: String
  let size: Int
  let permissions: mode_t
  package let isRegular: Bool
  package let isDirectory: Bool
  /// Which file it is, whatever its names.
  let identity: Identity

  struct Identity: Equatable, Sendable {
    let device, number: UInt64
  }

  /// Of an open file.
  init(descriptor: Int32, path: String) throws(DiTError) {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { throw DiTError(file: path, refused: "inspect") }
    self.init(status)
  }

  /// Of what `path` leads to, symbolic links followed; nil where there is nothing.
  ///
  /// - Throws: `DiTError` when the system refuses, as for a path through something that is not a directory.
  package init?(path: String) throws(DiTError) {
    var status = stat()
    guard unsafe stat(FileName.terminated(path), &status) == 0 else {
      if errno == ENOENT { return nil }
      throw DiTError(file: path, refused: "inspect")
    }
    self.init(status)
  }

  /// Whether there is anything at `path` that can be looked at, symbolic links followed.
  package static func exists(_ path: String) -> Bool {
    do throws(DiTError) { return try FileStatus(path: path) != nil } catch { return false }
  }

  private init(_ status: stat) {
    isRegular = status.st_mode & S_IFMT == S_IFREG
    isDirectory = status.st_mode & S_IFMT == S_IFDIR
    size = Int(status.st_size)
    permissions = status.st_mode & 0o7777
    identity = Identity(device: UInt64(truncatingIfNeeded: status.st_dev), number: UInt64(status.st_ino))
    kind =
      switch status.st_mode & S_IFMT {
      case S_IFREG: "a regular file"
      case S_IFDIR: "a directory"
      case S_IFIFO: "a pipe"
      case S_IFSOCK: "a socket"
      default: "a device"
      }
  }
}
