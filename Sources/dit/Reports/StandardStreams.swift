import DiTEngine
import Foundation

/// stdout: results. Names of files that are no UTF-8 are shown as `\xe9`.
enum StandardOutput {
  /// Writes `text` and the `terminator` at once; nothing is left in a buffer that an error could be lost with.
  ///
  /// - Throws: ``Failure`` (1) when the system does not take it, as on a full disk: with one line, but without one where
  ///   the reader has gone (`dit schedule | head -1`), who wants to hear no more.
  static func write(_ text: String, terminator: String = "\n") throws(Failure) {
    do {
      try StandardStream.output.write(FileName.shown(text) + terminator)
    } catch {
      throw error.isClosedPipe ? .silent : Failure(.failure, "\(error)")
    }
  }
}

/// stderr: errors, warnings, progress. What cannot be written is lost: there is nobody left to tell.
///
/// Names of files that are no UTF-8 are shown as `\xe9`.
enum StandardError {
  static func write(_ text: String) { try? StandardStream.error.write(FileName.shown(text)) }

  /// Whether stderr is a terminal.
  static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }
}
