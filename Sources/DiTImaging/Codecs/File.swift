#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// The door to the file system: whole files in, whole files out. Errors carry the system's words; the caller adds the path.
enum File {
  /// The first bytes of a regular file, all of them unless `prefix` says otherwise, and the file's size.
  ///
  /// A file larger than the limit is refused unread. Pipes and devices are refused without waiting for what they might
  /// say.
  static func contents(
    of path: String, limits: ImageLimits, prefix: Int = .max
  ) throws(ImagingError) -> (bytes: [UInt8], size: Int) {
    guard !path.utf8.contains(0) else { throw ImagingError(.unreadable("the path contains a NUL")) }
    let file = Descriptor(unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY))
    guard file.isOpen else { throw ImagingError(.unreadable(lastError())) }
    var status = stat()
    guard unsafe fstat(file.number, &status) == 0 else { throw ImagingError(.unreadable(lastError())) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      let isFolder = status.st_mode & S_IFMT == S_IFDIR
      throw ImagingError(.unreadable(isFolder ? "it is a directory" : "it is a pipe or a device, not a file"))
    }
    let size = Int(status.st_size)
    try limits.check(fileBytes: size)
    return (try read(min(size, prefix), from: file), size)
  }

  /// `count` bytes, fewer where the file has become shorter.
  private static func read(_ count: Int, from file: borrowing Descriptor) throws(ImagingError) -> [UInt8] {
    var failed = false
    let number = file.number
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let part = unsafe UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[filled...])
        let step = unsafe systemRead(number, part.baseAddress, count - filled)
        if step < 0 && errno == EINTR { continue }
        failed = step < 0
        guard step > 0 else { return }
        filled += step
      }
    }
    guard !failed else { throw ImagingError(.unreadable(lastError())) }
    return bytes
  }

  /// Puts the bytes at a path: into a new file beside it, flushed, then renamed over it; on failure the path is as it was.
  ///
  /// A link is followed. A device or pipe is written to, not replaced.
  static func write(_ bytes: [UInt8], to path: String) throws(ImagingError) {
    guard !path.utf8.contains(0) else { throw ImagingError(.unwritable("the path contains a NUL")) }
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return try replace(path, with: bytes) }
    switch status.st_mode & S_IFMT {
    case S_IFREG:
      guard unsafe access(path, W_OK) == 0 else { throw ImagingError(.unwritable(lastError())) }
      try replace(resolved(path), with: bytes)
    case S_IFDIR:
      throw ImagingError(.unwritable("it is a directory"))
    default:
      let file = Descriptor(unsafe open(path, O_WRONLY | O_CLOEXEC))
      try put(bytes, into: file)
    }
  }

  private static func replace(_ path: String, with bytes: [UInt8]) throws(ImagingError) {
    let name = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
    let directory = String(path[..<name])
    let random = String(UInt64.random(in: .min ... .max), radix: 36)
    let temporary = directory + ".dit-\(getpid())-\(random).tmp"
    let file = Descriptor(unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666))
    guard file.isOpen else { throw ImagingError(.unwritable(lastError())) }
    do throws(ImagingError) {
      try put(bytes, into: file)
      guard fsync(file.number) == 0, unsafe rename(temporary, path) == 0 else {
        throw ImagingError(.unwritable(lastError()))
      }
    } catch {
      _ = unsafe unlink(temporary)
      throw error
    }
    let folder = Descriptor(unsafe open(directory.isEmpty ? "." : directory, O_RDONLY | O_CLOEXEC))
    if folder.isOpen { _ = fsync(folder.number) }  // the file itself is safe; some file systems cannot flush a folder
  }

  private static func put(_ bytes: [UInt8], into file: borrowing Descriptor) throws(ImagingError) {
    guard file.isOpen else { throw ImagingError(.unwritable(lastError())) }
    var written = 0
    while written < bytes.count {
      let count = unsafe bytes[written...].withUnsafeBytes { unsafe Self.write(file.number, $0) }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw ImagingError(.unwritable(lastError())) }
      written += count
    }
  }

  private static func write(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
    #if canImport(Glibc)
      unsafe Glibc.write(descriptor, bytes.baseAddress, bytes.count)
    #elseif canImport(Musl)
      unsafe Musl.write(descriptor, bytes.baseAddress, bytes.count)
    #else
      unsafe Darwin.write(descriptor, bytes.baseAddress, bytes.count)
    #endif
  }

  private static func systemRead(_ descriptor: Int32, _ bytes: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    #if canImport(Glibc)
      unsafe Glibc.read(descriptor, bytes, count)
    #elseif canImport(Musl)
      unsafe Musl.read(descriptor, bytes, count)
    #else
      unsafe Darwin.read(descriptor, bytes, count)
    #endif
  }

  private static func resolved(_ path: String) -> String {
    guard let real = unsafe realpath(path, nil) else { return path }
    defer { unsafe free(real) }
    return unsafe String(cString: real)
  }

  private static func lastError() -> String { unsafe String(cString: strerror(errno)) }

  /// An open file, closed with its owner.
  private struct Descriptor: ~Copyable {
    let number: Int32
    var isOpen: Bool { number >= 0 }
    init(_ number: Int32) { self.number = number }
    deinit { if number >= 0 { _ = close(number) } }
  }
}
