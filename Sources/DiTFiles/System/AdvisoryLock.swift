#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A lock on an open file (`flock`). The system takes it back when the file is closed, so also when the process is killed;
/// a file of NFS is locked on its server, for every machine that mounts it.
enum AdvisoryLock {
  case taken
  /// Another process has it, or another opening of the file in this one.
  case held
  /// The file system has no locks, as Lustre without `flock` or NFS without its lock service.
  case unsupported

  /// Takes the lock of an open file if it is free; does not wait.
  init(_ descriptor: Int32) {
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      if errno == EINTR { continue }
      self = errno == EWOULDBLOCK ? .held : .unsupported
      return
    }
    self = .taken
  }
}
