import DiTDistributed
import DiTEngine
import DiTImaging
import DiTNumpy
import Foundation

/// The exit status; scripts rely on the numbers.
enum ExitStatus: Int32 {
  /// Success.
  case done = 0
  /// A failure of neither the command line nor an input, such as an output that cannot be written.
  case failure = 1
  /// The command line is wrong, or has a value that the model cannot take.
  case usage = 64
  /// An input is missing, unreadable, malformed, or does not fit.
  case input = 65
  /// Interrupted, after what was finished has been saved.
  case interrupted = 130
}

/// Why a command did not do what it was asked: an exit status and one line.
struct Failure: Error, Equatable, CustomStringConvertible {
  let status: ExitStatus
  let description: String
  /// Whether all processes of a run have come to it together, so that one need not end the others.
  let isShared: Bool

  init(_ status: ExitStatus, _ description: String, isShared: Bool = false) {
    self.status = status
    self.description = description
    self.isShared = isShared
  }

  /// A value of the command line that cannot be taken.
  static func usage(_ option: String, expected: String, found: String) -> Failure {
    Failure(.usage, "\(option): expected \(expected), found \(found)")
  }

  /// An input whose `item` (as in `tensor x`) does not fit.
  static func input(_ path: String, _ item: String, expected: String, found: String) -> Failure {
    Failure(.input, "\(path): \(item): expected \(expected), found \(found)")
  }
}

extension Failure {
  /// The status of an error that the library threw; nil for errors of other origin.
  ///
  /// Values are reported as the command line's unless ``TensorFile`` attributed them to a file, and files as inputs unless
  /// ``OutputFile`` attributed them to an output.
  init?(_ error: any Error) {
    switch error {
    case let failure as Failure: self = failure
    case let error as DiTError:
      if error.cause is FailureElsewhere { Ranks.awaitEnd() }
      let status = ExitStatus(rawValue: error.exitStatus) ?? .failure
      self.init(status, "\(error.namedAsOnTheCommandLine)")
    default: return nil
    }
  }

  /// A status of 1 without a line.
  static var silent: Failure { Failure(.failure, "") }

  /// Writes the line to stderr and ends the process.
  func exit() -> Never {
    if isShared {
      if Ranks.isFirst { StandardError.write("Error: \(description)\n") }
      Ranks.finish()
      Foundation.exit(status.rawValue)
    }
    guard self != .silent else {
      Ranks.abort(status: status.rawValue)
      Foundation.exit(status.rawValue)
    }
    Ranks.letFirstSpeak()
    let line = description.split(whereSeparator: \.isNewline).joined(separator: " ")  // a path can hold anything
    StandardError.write("Error: \(line)\n")
    Ranks.abort(status: status.rawValue)
    Foundation.exit(status.rawValue)
  }
}

extension DiTError {
  /// Keys of config.json that are options.
  private static let dashed = ["guidance_channels", "guidance_every", "guidance_interval", "lambda_seq"]

  /// The same error, with a setting or argument under its name on the command line.
  fileprivate var namedAsOnTheCommandLine: DiTError {
    guard let name = option ?? argument, kind == .option || kind == .argument else { return self }
    let option = "--" + (Self.dashed.contains(name) ? name.replacing("_", with: "-") : name)
    return about(Subject(file: file, .option(option)))
  }
}
