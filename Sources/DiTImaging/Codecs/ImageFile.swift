import DiTFiles
import DiTTensor

/// Whole files in, whole files out, with the system's words in this target's errors; the caller adds the path.
enum ImageFile {
  /// The first bytes of a regular file, all of them unless `prefix` says otherwise, and the file's size.
  ///
  /// A file larger than the limit is refused unread. Pipes and devices are refused without waiting for what they might
  /// say.
  static func contents(
    of path: String, limits: ImageLimits, prefix: Int = .max
  ) throws(DiTError) -> (bytes: [UInt8], size: Int) {
    let file = try open(path, limits: limits)
    return (try bytes(of: file, upTo: prefix), file.size)
  }

  /// A regular file, open to read; refused as ``contents(of:limits:prefix:)`` says.
  static func open(_ path: String, limits: ImageLimits) throws(DiTError) -> RegularFile {
    guard !path.utf8.contains(0) else { throw DiTError(image: nil, .unreadable("the path contains a NUL")) }
    let file: RegularFile
    do throws(DiTError) {
      file = try RegularFile(path: path)
    } catch {
      throw DiTError(image: nil, .unreadable(words(error)), cause: error.fileProblem)
    }
    try limits.check(fileBytes: file.size)
    return file
  }

  static func bytes(of file: borrowing RegularFile, upTo prefix: Int = .max) throws(DiTError) -> [UInt8] {
    do throws(DiTError) {
      return try file.bytes(upTo: prefix)
    } catch {
      throw DiTError(image: nil, .unreadable(words(error)), cause: error.fileProblem)
    }
  }

  /// Puts the bytes at a path: into a new file beside it, flushed, then renamed over it; on failure the path is as it was, but where
  /// the folder cannot be flushed: then the new file is in its place and complete.
  ///
  /// A link is followed. A device or pipe is written to, not replaced; a file that may not be written is not replaced.
  static func write(_ bytes: [UInt8], to path: String) throws(DiTError) {
    guard !path.utf8.contains(0) else { throw DiTError(image: nil, .unwritable("the path contains a NUL")) }
    do throws(DiTError) {
      let status = try FileStatus(path: path)
      if let status, !status.isRegular, !status.isDirectory {
        try AppendedFile(path: path).write(bytes.span)
      } else {
        if status?.isRegular == true { _ = try AppendedFile(path: path) }
        let file = try AtomicFile(path: path)
        try file.write(bytes.span)
        try file.commit()
      }
    } catch {
      throw DiTError(image: nil, .unwritable(words(error)), cause: error.fileProblem)
    }
  }

  private static func words(_ error: DiTError) -> String {
    switch error.fileProblem {
    case .notRegular("a directory"): "it is a directory"
    case .notRegular("no file name"), .missing: FileProblem.missingText
    case .notRegular: "it is a pipe or a device, not a file"
    case .empty: "it is empty"
    case .pointer(let bytes):
      "it is a Git LFS pointer: `git lfs pull` fetches the file" + (bytes.map { " of \($0) bytes" } ?? "")
    case .refused(_, let code): FileProblem.text(code)
    case .inUse, .vanished, nil: "its directory is in use"
    }
  }
}
