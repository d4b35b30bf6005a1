import DiTTensor

/// Why a configuration file cannot be used: the key, what was expected and what was found.
public struct ConfigurationFileError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file as the caller named it.
  public let file: String
  /// The key with its section, as in `diffusion.steps`; a line and column where the JSON itself is broken.
  public let key: String
  /// What is wrong.
  public let problem: String

  /// `key` was expected to be one thing and is another.
  public init(file: String, key: String, expected: String, found: String) {
    self.init(file: file, key: key, problem: "expected \(expected), found \(found)")
  }

  /// `key` has a `problem`.
  public init(file: String, key: String, problem: String) {
    self.file = file
    self.key = key
    self.problem = problem
  }

  /// One line: the file, the key, what was expected, what was found.
  public var description: String {
    [file, key, problem].filter { !$0.isEmpty }.map { Message.oneLine($0, limit: 1024) }.joined(separator: ": ")
  }
}
