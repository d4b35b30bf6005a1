import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A folder that one process writes to: a file in it that is locked, and says by whom, until this object or its process
/// ends.
///
/// The system gives the lock back, so that a killed process leaves a file that keeps nobody out. Where the file system has
/// no locks the file itself is the lock: it keeps out whom it does not name as a process of this machine that has ended.
package final class FolderLock: Sendable {
  /// The folder.
  package let path: String
  private let file: String
  private let descriptor: Int32
  private let identity: FileStatus.Identity

  /// - Parameters:
  ///   - path: a folder that is there.
  ///   - name: of the file in it.
  ///   - assumingLocks: false to do as where the file system has none.
  /// - Throws: `DiTError`: `inUse` where another process has the lock, or another object of this one; when no
  ///   file can be made there.
  package init(_ path: String, name: String, assumingLocks: Bool = true) throws(DiTError) {
    let file = Paths.join(path, name)
    while true {
      let descriptor = unsafe open(FileName.terminated(file), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o666)
      guard descriptor >= 0 else { throw DiTError(output: file, .refused(operation: "create", code: errno)) }
      do throws(DiTError) {
        if let identity = try Self.take(descriptor, path, file, assumingLocks) {
          (self.path, self.file, self.descriptor, self.identity) = (path, file, descriptor, identity)
          return
        }
        close(descriptor)  // its owner removed it meanwhile
      } catch {
        close(descriptor)
        throw error
      }
    }
  }

  deinit {
    if let there = try? FileStatus(path: file), there.identity == identity { unsafe unlink(FileName.terminated(file)) }
    close(descriptor)
  }

  /// Throws unless the folder is still where it was, and this object's: not removed, moved or replaced.
  ///
  /// - Throws: `DiTError`, `vanished`.
  package func check() throws(DiTError) {
    guard let there = try? FileStatus(path: file), there.identity == identity else {
      throw DiTError(output: path, .vanished)
    }
  }

  /// Takes the lock of an open file and writes this process into it.
  ///
  /// - Returns: the file's identity; nil where it is no longer the one at its path.
  private static func take(
    _ descriptor: Int32, _ path: String, _ file: String, _ assumingLocks: Bool
  ) throws(DiTError) -> FileStatus.Identity? {
    let holder = FolderHolder(descriptor)
    switch assumingLocks ? AdvisoryLock(descriptor) : .unsupported {
    case .taken: break
    case .held: throw DiTError(output: path, .inUse(by: holder?.description ?? "another process", file: nil))
    case .unsupported:
      if let holder, !holder.hasEnded {
        throw DiTError(output: path, .inUse(by: holder.description, file: file))
      }
    }
    let identity = try FileStatus(descriptor: descriptor, path: file).identity
    guard let there = try FileStatus(path: file), there.identity == identity else { return nil }
    // What it says helps people, and the lock holds without it: on a full disk too.
    ftruncate(descriptor, 0)
    try? AtomicFile.write(Array("\(FolderHolder.current)\n".utf8).span, to: descriptor, path: file)
    fsync(descriptor)
    return identity
  }
}

/// Who has a folder, as its lock's file says.
private struct FolderHolder: CustomStringConvertible {
  let process: Int32
  let machine: String

  static var current: FolderHolder { FolderHolder(process: getpid(), machine: thisMachine) }

  private init(process: Int32, machine: String) { (self.process, self.machine) = (process, machine) }

  /// What an open file says; nil where that is nothing of the kind.
  init?(_ descriptor: Int32) {
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 512) { buffer, count in
      count = max(0, unsafe pread(descriptor, buffer.baseAddress, buffer.count, 0))
    }
    let words = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
    guard words.count == 4, words[0] == "process", words[2] == "on", let process = Int32(words[1]), process > 0 else {
      return nil
    }
    (self.process, machine) = (process, Message.oneLine(String(words[3])))
  }

  var description: String { "process \(process) on \(machine)" }

  /// Whether it was a process of this machine that is no longer there.
  var hasEnded: Bool { machine == Self.thisMachine && kill(process, 0) != 0 && errno == ESRCH }

  private static var thisMachine: String {
    var name = utsname()
    guard unsafe uname(&name) == 0 else { return "unknown" }
    let text = unsafe withUnsafeBytes(of: &name.nodename) {
      unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
    return text.isEmpty || text.contains(where: \.isWhitespace) ? "unknown" : text
  }
}
