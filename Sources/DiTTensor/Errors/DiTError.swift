/// Why a call could not do what it was asked: what it was about, what was expected there and what was found.
///
/// It is the one error of this package. Beside it there is only `CancellationError`, and what a caller's own closure, task or
/// decoder throws.
/// Misuse from code (an index out of range, a buffer of another size) traps instead, with both sizes in the message.
///
///     do {
///       let model = try DiT(contentsOf: "dit-xl")
///     } catch let error as DiTError {
///       if error.tensor == "pos_embed" { … }       // the subject is typed
///       FileHandle.standardError.write(Data("\(error)\n".utf8))
///       exit(error.exitStatus)
///     }
public struct DiTError: Error, Sendable {
  /// What kind of thing went wrong, which says how a program may react.
  public enum Kind: Sendable, CaseIterable {
    /// An input is not there, or the system refuses it. The ``DiTError/cause`` is a ``FileProblem``.
    case file
    /// An output cannot be written. What was there before is whole. The cause is a ``FileProblem``.
    case output
    /// A file, or a set that is evaluated, holds something else than it should: its format, a tensor or an entry of it.
    case content
    /// A configuration has a key or a value that cannot be used.
    case configuration
    /// Data that cannot be trained on, or no longer be read.
    case data
    /// A setting has a value that cannot be used.
    case option
    /// A tensor or list that was handed to a call does not fit.
    case argument
    /// Another process of the run, or the network between them, is gone or does not answer.
    case communication
    /// NaN or infinity where all inputs were finite. The cause is an ``Overflow`` or a `Divergence`.
    case numbers
  }

  /// What an error is about.
  public struct Subject: Equatable, Sendable {
    /// The file as the caller named it, or the name that data have; nil where there is none.
    public var file: String?
    /// What of the file or the call; nil where all of it is meant.
    public var part: Part?

    /// - Parameter name: of the file; empty where there is none, as for JSON in memory.
    package init(named name: String?, _ part: Part?) {
      self.init(file: name?.isEmpty == true ? nil : name, part)
    }

    public init(file: String? = nil, _ part: Part? = nil) {
      (self.file, self.part) = (file, part)
    }
  }

  /// What of a file or a call.
  public enum Part: Equatable, Sendable {
    /// A configuration's key with its sections, as in `diffusion.steps`.
    case key(String)
    /// A tensor of a file.
    case tensor(String)
    /// A setting, by its key in config.json, as in `guidance_interval`.
    case option(String)
    /// A tensor or list of a call, by the name that files give it, as in `noise`.
    case argument(String)
    /// A variable of the environment with its value, as in `DIT_ISA=avx2`.
    case environment(String)
    /// Another part of a file in words, as in `ZIP archive`.
    case entry(String)

    /// The name without what it is a name of.
    public var name: String {
      switch self {
      case .key(let name), .tensor(let name), .option(let name), .argument(let name), .environment(let name),
        .entry(let name):
        name
      }
    }
  }

  /// What kind of thing went wrong.
  public let kind: Kind
  /// What the error is about.
  public let subject: Subject
  /// What was expected; nil where ``problem`` says it in other words.
  public let expected: String?
  /// What was found; nil where ``problem`` says it in other words.
  public let found: String?
  /// What is wrong with the subject, on one line.
  public let problem: String
  /// The details in types of their own, where there are any: a ``FileProblem``, a ``StateDictMismatch``, an ``Overflow``, ….
  public let cause: (any Equatable & Sendable)?

  private init(
    _ kind: Kind, _ subject: Subject, expected: String?, found: String?, problem: String,
    cause: (any Equatable & Sendable)?
  ) {
    (self.kind, self.subject, self.expected, self.found) = (kind, subject, expected, found)
    (self.problem, self.cause) = (problem, cause)
  }

  /// `subject` was expected to be one thing and is another.
  ///
  /// - Parameters:
  ///   - kind: what sort of error, from which the exit status follows.
  ///   - subject: what it is about.
  ///   - expected: what would have been right.
  ///   - found: what is there.
  ///   - cause: the details in a type of their own.
  public init(
    _ kind: Kind, _ subject: Subject, expected: String, found: String, cause: (any Equatable & Sendable)? = nil
  ) {
    self.init(kind, subject, expected: expected, found: found, place: "", note: "", cause: cause)
  }

  /// - Parameters:
  ///   - place: where in the subject, before what was expected.
  ///   - note: what else there is to say, behind what was found.
  package init(
    _ kind: Kind, _ subject: Subject, expected: String, found: String, place: String, note: String,
    cause: (any Equatable & Sendable)?
  ) {
    // What a file holds may be anything of any length.
    let shown = kind == .content ? Message.oneLine(found, limit: 200) : Self.line(found)
    self.init(
      kind, subject, expected: expected, found: found,
      problem: "\(place)expected \(Self.line(expected)), found \(shown)\(note)", cause: cause)
  }

  /// `subject` has a `problem` that is not one of expectations.
  public init(_ kind: Kind, _ subject: Subject, problem: String, cause: (any Equatable & Sendable)? = nil) {
    self.init(kind, subject, expected: nil, found: nil, problem: Self.line(problem), cause: cause)
  }

  private static func line(_ text: String) -> String { Message.oneLine(text, limit: 1024) }
}

extension DiTError {
  /// The file that the error is about.
  public var file: String? { subject.file }
  /// The configuration's key that the error is about.
  public var key: String? { if case .key(let name)? = subject.part { name } else { nil } }
  /// The file's tensor that the error is about.
  public var tensor: String? { if case .tensor(let name)? = subject.part { name } else { nil } }
  /// The setting that the error is about.
  public var option: String? { if case .option(let name)? = subject.part { name } else { nil } }
  /// The tensor or list of the call that the error is about.
  public var argument: String? { if case .argument(let name)? = subject.part { name } else { nil } }

  /// The status that a command line tool should end with: 64 for settings and arguments, 65 for inputs, 1 for outputs, other
  /// processes and numbers.
  public var exitStatus: Int32 {
    switch kind {
    case .option, .argument: 64
    case .output, .communication, .numbers: 1
    case .file, .content, .configuration, .data: 65
    }
  }

  /// The name of the part that the error is about, without what it is a name of; of the whole file where there is none.
  package var name: String { subject.part?.name ?? subject.file ?? "" }

  /// The ``cause`` where it is of this type.
  package func cause<Cause>(_ type: Cause.Type = Cause.self) -> Cause? { cause as? Cause }

  /// The same error, said of something else.
  package func about(_ subject: Subject, _ kind: Kind? = nil) -> DiTError {
    DiTError(kind ?? self.kind, subject, expected: expected, found: found, problem: problem, cause: cause)
  }

  /// The same error, said of a part of the file at `path`.
  package func about(file path: String, _ part: Part?, _ kind: Kind? = nil) -> DiTError {
    about(Subject(named: path, part), kind)
  }

  /// The same error as one of another kind.
  package func of(_ kind: Kind) -> DiTError { about(subject, kind) }
}

extension DiTError: Equatable {
  /// Causes are not compared: what they say is in ``problem``.
  public static func == (a: DiTError, b: DiTError) -> Bool {
    a.kind == b.kind && a.subject == b.subject && a.expected == b.expected && a.found == b.found
      && a.problem == b.problem
  }
}

extension DiTError: CustomStringConvertible {
  /// One line: the file, what of it, what was expected, what was found.
  public var description: String {
    let file = subject.file.map { Message.oneLine($0, limit: 1024) }
    // Data may be files of many kinds: what is a tensor of one is a folder's in another.
    let part = kind == .data ? subject.part.map { Message.oneLine($0.name) } : subject.part?.description
    return [file, part, problem].compactMap(\.self).filter { !$0.isEmpty }.joined(separator: ": ")
  }
}

extension DiTError.Part: CustomStringConvertible {
  /// As messages say it: `tensor pos_embed`, `diffusion.steps`.
  public var description: String {
    let shown = Message.oneLine(name, limit: 200)
    return if case .tensor = self { "tensor \(shown)" } else { shown }
  }
}

// MARK: - The ways in which modules make one

extension DiTError {
  /// A part of a file is not what it should be.
  package init(file: String?, _ part: Part? = nil, expected: String, found: String) {
    self.init(.content, Subject(named: file, part), expected: expected, found: found)
  }

  /// A key of a configuration, which is read from a file where `file` is given, is not what it should be.
  package init(file: String? = nil, key: String, expected: String, found: String) {
    self.init(.configuration, Subject(named: file, key.isEmpty ? nil : .key(key)), expected: expected, found: found)
  }

  /// A key of a configuration, which is read from a file where `file` is given, has a problem.
  package init(file: String? = nil, key: String, problem: String) {
    self.init(.configuration, Subject(named: file, .key(key)), problem: problem)
  }

  /// A setting has a value that cannot be used.
  package init(option name: String, expected: String, found: String) {
    self.init(.option, Subject(.option(name)), expected: expected, found: found)
  }

  /// A tensor or list of a call does not fit.
  package init(argument name: String, expected: String, found: String) {
    self.init(.argument, Subject(.argument(name)), expected: expected, found: found)
  }

  /// A set cannot be evaluated, or not against another.
  package init(set name: String, _ part: Part? = nil, expected: String, found: String) {
    self.init(.content, Subject(file: name, part), expected: expected, found: found)
  }
}
