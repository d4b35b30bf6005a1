import DiTFiles
import Foundation
import Testing

/// The built `dit`, run as a person runs it.
enum Tool {
  /// What a run left behind.
  struct Result: Sendable {
    let status: Int32
    let stdout: String
    let stderr: String

    /// The line that says what went wrong; empty when there is none.
    var error: String { stderr.split(separator: "\n", omittingEmptySubsequences: false).first.map(String.init) ?? "" }
  }

  /// Runs `dit` to its end.
  ///
  /// - Parameter environment: added to the test's own; a nil value takes a variable out. `OPENBLAS_CORETYPE` is taken
  ///   out unless given.
  static func run(_ arguments: [String], environment: [String: String?] = [:]) async throws -> Result {
    let scratch = try Scratch()
    let run = try start(arguments, environment: environment, in: scratch)
    return try await run.result()
  }

  /// Runs a shell script in which `$DIT` is the tool and `$DIR` a folder: words that are not UTF-8 are made there, by printf.
  static func script(_ script: String, in scratch: Scratch) async throws -> Result {
    let run = try start(
      ["-c", script], environment: ["DIT": executable.path(percentEncoded: false), "DIR": scratch.path("")],
      in: scratch, program: URL(filePath: "/bin/sh"))
    return try await run.result()
  }

  /// Runs a line of `sh` in which `"$0" "$@"` is `dit` with these arguments, to its end: for what a shell gives a process.
  static func shell(_ script: String, _ arguments: [String]) async throws -> Result {
    let scratch = try Scratch()
    let run = try start(
      ["-c", script, executable.path(percentEncoded: false)] + arguments, in: scratch,
      program: URL(filePath: "/bin/sh"))
    return try await run.result()
  }

  /// Starts `dit` and returns at once. Its output goes to files in `scratch`.
  ///
  /// - Parameters:
  ///   - terminal: takes the place of the file for stderr.
  ///   - program: runs instead of the tool.
  static func start(
    _ arguments: [String], environment: [String: String?] = [:], in scratch: Scratch, terminal: FileHandle? = nil,
    program: URL? = nil
  ) throws -> Run {
    let process = Process()
    process.executableURL = program ?? executable
    process.arguments = arguments
    var variables = ProcessInfo.processInfo.environment
    variables["OPENBLAS_CORETYPE"] = nil
    for (name, value) in environment { variables[name] = value }
    process.environment = variables
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = try scratch.output("stdout")
    process.standardError = try terminal ?? scratch.output("stderr")
    return try Run(process, scratch)
  }

  /// A running `dit`.
  struct Run {
    private let process: Process
    private let scratch: Scratch
    private let ended: AsyncStream<Int32>

    fileprivate init(_ process: Process, _ scratch: Scratch) throws {
      let (ended, continuation) = AsyncStream.makeStream(of: Int32.self)
      process.terminationHandler = {
        // A process that a signal ended has the status a shell gives it.
        continuation.yield($0.terminationReason == .uncaughtSignal ? 128 + $0.terminationStatus : $0.terminationStatus)
        continuation.finish()
      }
      try process.run()
      self.process = process
      self.scratch = scratch
      self.ended = ended
    }

    var isRunning: Bool { process.isRunning }
    var processIdentifier: Int32 { process.processIdentifier }

    /// What it wrote to stderr so far.
    var stderr: String { scratch.text("stderr") }

    /// Sends a signal as soon as `isReached`, unless the process ends first. Watched from a thread of its own: other tests
    /// keep the shared ones busy for seconds. A process that gets nowhere in half an hour is killed, so that its test fails.
    func send(_ signal: Int32, once isReached: @escaping @Sendable () -> Bool) async {
      let process = process
      await withCheckedContinuation { continuation in
        Thread.detachNewThread {
          let end = ContinuousClock.now + .seconds(1800)
          while process.isRunning, ContinuousClock.now < end, !isReached() { usleep(1000) }
          if process.isRunning { kill(process.processIdentifier, ContinuousClock.now < end ? signal : SIGKILL) }
          continuation.resume()
        }
      }
    }

    /// Waits for the end.
    func result() async throws -> Result {
      for await status in ended {
        return Result(status: status, stdout: scratch.text("stdout"), stderr: scratch.text("stderr"))
      }
      throw CancellationError()
    }
  }

  /// `dit` beside the bundle that holds these tests.
  private static var executable: URL {
    #if os(macOS)
      let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") } ?? Bundle.main
      return bundle.bundleURL.deletingLastPathComponent().appending(path: "dit")
    #else
      return Bundle.main.bundleURL.appending(path: "dit")
    #endif
  }
}

/// A folder that is removed with its owner.
final class Scratch: Sendable {
  let url: URL

  init() throws {
    url = FileManager.default.temporaryDirectory.appending(path: "dit-test-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  deinit { try? Directory.remove(path("")) }

  /// The path of a file in the folder.
  func path(_ name: String) -> String { url.appending(path: name).path(percentEncoded: false) }

  /// The names in the folder, sorted; a half-written file would be among them.
  var names: [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path(""))) ?? []
    return names.filter { $0 != "stdout" && $0 != "stderr" }.sorted()
  }

  func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path(name)) }

  func bytes(_ name: String) throws -> Data { try Data(contentsOf: url.appending(path: name)) }

  /// The file as text; empty when there is none.
  func text(_ name: String) -> String {
    (try? bytes(name)).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }

  /// Writes a file and returns its path.
  func write(_ text: String, to name: String) throws -> String {
    try Data(text.utf8).write(to: url.appending(path: name))
    return path(name)
  }

  fileprivate func output(_ name: String) throws -> FileHandle {
    try Data().write(to: url.appending(path: name))
    return try FileHandle(forWritingTo: url.appending(path: name))
  }
}
