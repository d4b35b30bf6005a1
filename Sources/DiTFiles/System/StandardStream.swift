import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What a process is given to write to: a file, a pipe, a terminal.
package enum StandardStream: Int32, Sendable {
  case output = 1
  case error = 2

  private var name: String { self == .output ? "standard output" : "standard error" }

  /// Hands all of `text` to the system; there is no buffer.
  ///
  /// - Throws: `DiTError`, as when the disk is full.
  package func write(_ text: String) throws(DiTError) {
    try AtomicFile.write(Array(text.utf8).span, to: rawValue, path: name)
  }

  /// To be called before any file is opened: takes the numbers of streams that the process was started without (`>&-`), so
  /// that no file gets one of them and is written to as a stream. Writing to them goes on to fail.
  package static func reserve() {
    while true {
      let descriptor = unsafe open("/dev/null", O_RDONLY)
      guard descriptor >= 0 else { return }
      if descriptor > StandardStream.error.rawValue {
        close(descriptor)
        return
      }
    }
  }

  /// A file that grows beyond what `ulimit -f` or a quota allows is an error of the write, which names the file, not the
  /// signal SIGXFSZ that ends the process. Of a whole program: a library leaves that to its host.
  package static func refuseSizesByError() { signal(SIGXFSZ, SIG_IGN) }
}
