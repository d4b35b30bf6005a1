import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Directories on disk. Changes of names are durable when a call returns.
package enum Directory {
  /// The names in the directory at `path`, hidden ones too, in the order of their bytes; none when there is no such
  /// directory.
  ///
  /// - Throws: `DiTError` for one that is there and cannot be listed.
  package static func names(_ path: String) throws(DiTError) -> [String] {
    try entries(path) ?? []
  }

  /// The names in the directory at `path`, hidden ones too, in the order of their bytes.
  ///
  /// - Throws: `DiTError`.
  package static func listing(_ path: String) throws(DiTError) -> [String] {
    guard let names = try entries(path) else { throw DiTError(file: path, refused: "list") }
    return names
  }

  /// nil, and `errno` says why, when there is no such directory.
  private static func entries(_ path: String) throws(DiTError) -> [String]? {
    guard let directory = unsafe opendir(FileName.terminated(path)) else {
      if errno == ENOENT || errno == ENOTDIR { return nil }
      throw DiTError(file: path, refused: "list")
    }
    defer { unsafe closedir(directory) }
    var names: [[UInt8]] = []
    while true {
      errno = 0
      guard let entry = unsafe readdir(directory) else {
        guard errno == 0 else { throw DiTError(file: path, refused: "list") }
        break
      }
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { unsafe Array($0.prefix { $0 != 0 }) }
      if name != [0x2E], name != [0x2E, 0x2E] { names.append(name) }
    }
    return names.sorted { $0.lexicographicallyPrecedes($1) }.map { FileName.string(of: $0) }
  }

  /// `path` as an absolute one without symbolic links, `.` and `..`, as far as it leads to something; what does not is kept as
  /// it is.
  ///
  /// - Throws: `DiTError`.
  package static func resolved(_ path: String) throws(DiTError) -> String {
    if let real = unsafe realpath(FileName.terminated(path), nil) {
      defer { unsafe free(real) }
      return unsafe FileName.string(terminated: real)
    }
    guard errno == ENOENT else { throw DiTError(file: path, refused: "follow") }
    let (parent, name) = (Paths.parent(of: path), Paths.name(of: path))
    if parent == path || path.isEmpty { return path }
    switch name {
    case ".": return try resolved(parent)
    case "..": return Paths.parent(of: try resolved(parent))
    default: return Paths.join(try resolved(parent), name)
    }
  }

  /// Makes the directory at `path` where it is missing.
  ///
  /// - Parameter withParents: also those above it; without, a folder that has vanished is not made anew.
  /// - Throws: `DiTError`, also when there is something else at `path`.
  package static func create(_ path: String, withParents: Bool = true) throws(DiTError) {
    func refusal(_ code: Int32) -> DiTError {
      DiTError(output: path, .refused(operation: "create the directory", code: code))
    }
    if let status = try FileStatus(path: path) {
      guard status.isDirectory else { throw refusal(EEXIST) }
      return
    }
    let parent = Paths.parent(of: path)
    if withParents, parent != path { try create(parent) }
    if unsafe mkdir(FileName.terminated(path), 0o777) != 0 {
      let code = errno  // another process may have been faster
      guard code == EEXIST, try FileStatus(path: path)?.isDirectory == true else { throw refusal(code) }
    }
    try flush(parent, for: path)
  }

  /// Gives a finished directory another name in its own parent. Nothing may have that name.
  ///
  /// - Throws: `DiTError`, which names `target`.
  package static func rename(_ path: String, to target: String) throws(DiTError) {
    guard systemRename(path, target) else { throw DiTError(output: target, refused: "put in place") }
    try flush(Paths.parent(of: target), for: target)
  }

  /// Removes a file, or a directory and what is in it; nothing where there is none.
  ///
  /// - Throws: `DiTError`.
  package static func remove(_ path: String) throws(DiTError) {
    let bytes = FileName.terminated(path)
    var status = stat()
    if unsafe lstat(bytes, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
      for name in try listing(path) { try remove(Paths.join(path, name)) }
      guard unsafe rmdir(bytes) == 0 || errno == ENOENT else { throw DiTError(output: path, refused: "remove") }
    } else {
      guard unsafe unlink(bytes) == 0 || errno == ENOENT else { throw DiTError(output: path, refused: "remove") }
    }
  }

  /// Copies the regular files of the directory `source`, those that links lead to included but no hidden ones, into the
  /// directory `target`, which is made.
  ///
  /// - Throws: `DiTError`.
  package static func copyFiles(of source: String, to target: String) throws(DiTError) {
    if try FileStatus(path: source)?.isRegular == true { return try copy(source, to: target) }
    try create(target)
    for name in try listing(source) where name.utf8.first != UInt8(ascii: ".") {
      let file = Paths.join(source, name)
      if try FileStatus(path: file)?.isRegular == true { try copy(file, to: Paths.join(target, name)) }
    }
  }

  /// Copies the bytes and permissions of a file.
  private static func copy(_ source: String, to target: String) throws(DiTError) {
    let file = try RegularFile(path: source)
    let copy = try AtomicFile(path: target)
    fchmod(copy.number, try FileStatus(descriptor: file.descriptor.number, path: source).permissions & 0o777)
    var place = 0
    while place < file.size {
      let part = try file.bytes(place..<min(file.size, place + 1 << 22))
      guard !part.isEmpty else { break }
      try copy.write(part.span)
      place += part.count
    }
    try copy.commit()
  }

  /// Waits until the names in `directory` are on the disk; errors name `path`, the file or directory that was put there.
  static func flush(_ directory: String, for path: String) throws(DiTError) {
    let operation = "flush the directory of"
    let descriptor = unsafe open(FileName.terminated(directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw DiTError(output: path, refused: operation) }
    defer { close(descriptor) }
    // Some file systems cannot flush a directory and need not.
    while fsync(descriptor) != 0 {
      if errno == EINTR { continue }
      if errno == EINVAL || errno == ENOTSUP { return }
      throw DiTError(output: path, refused: operation)
    }
  }

  /// Whether the system did it; if not, `errno` says why.
  static func systemRename(_ path: String, _ target: String) -> Bool {
    #if canImport(Glibc)
      unsafe Glibc.rename(FileName.terminated(path), FileName.terminated(target)) == 0
    #elseif canImport(Musl)
      unsafe Musl.rename(FileName.terminated(path), FileName.terminated(target)) == 0
    #else
      unsafe Darwin.rename(FileName.terminated(path), FileName.terminated(target)) == 0
    #endif
  }
}
