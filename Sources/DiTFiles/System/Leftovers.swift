import DiTTensor
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Temporary files and directories (`.dit-….tmp`) that killed processes left.
///
/// Who writes one holds its lock from its first moment on, and makes another where somebody was faster than the lock; so
/// one that can be locked has no owner. A directory with one that it was about to replace beside it (`.dit-….tmp.old`) stays.
enum Leftovers {
  private static let prefix = ".dit-"
  private static let suffix = ".tmp"
  /// Of the directory that one with a temporary name is about to replace.
  static let oldSuffix = ".old"
  /// Where this process has been through.
  private static let cleared = Mutex<Set<ExactName>>([])

  /// A name for something that is not yet complete.
  static var name: String { prefix + String(UInt64.random(in: .min ... .max), radix: 16) + suffix }

  /// Removes what has no owner from a directory, the first time that this process is about to write there. What cannot be
  /// removed stays.
  static func clear(in directory: String) {
    guard cleared.withLock({ $0.insert(ExactName(directory)).inserted }) else { return }
    let names = ((try? Directory.names(directory)) ?? []).filter { $0.hasPrefix(prefix) }
    let replacements = Set(names.filter { $0.hasSuffix(suffix) })
    for name in names {
      if name.hasSuffix(suffix + oldSuffix) {
        // Once what replaces it is in its place; before, both are all that is left of a directory.
        if !replacements.contains(String(name.dropLast(oldSuffix.count))) { remove(Paths.join(directory, name)) }
      } else if name.hasSuffix(suffix), !names.contains(name + oldSuffix) {
        remove(Paths.join(directory, name))
      }
    }
  }

  private static func remove(_ path: String) {
    // Of a link neither the file that it leads to nor itself.
    let descriptor = unsafe open(FileName.terminated(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    guard let status = try? FileStatus(descriptor: descriptor, path: path), status.isRegular || status.isDirectory,
      case .taken = AdvisoryLock(descriptor)
    else { return }
    try? Directory.remove(path)
  }
}
