import DiTFiles
import DiTPipeline
import Foundation

/// A log of one JSON object a line, appended and handed to the system line by line.
///
/// A step: `{"step":10,"loss":…,"mse":…,"vb":…,"seq":…,"gradient_norm":…,"learning_rate":…,"samples":1280,"seconds":…}`,
/// seconds being the mean of a step since the line before. A validation:
/// `{"step":1000,"validation_loss":…,"validation_mse":…,"validation_vb":…,"validation_seq":…,"validation_samples":…}`.
/// `vb` is there with a learned variance only, `seq` (w_t L_seq) with `lambda_seq` only. No other file of a run carries times.
public struct JSONLinesLog {
  public let path: String
  private let file: FileHandle

  /// An empty log, in place of one that may be there.
  ///
  /// - Throws: `FileError`.
  public init(creating path: String) throws {
    try self.init(path, text: [])
  }

  /// The log of a run that goes on after `step`: later lines, and one cut off in the middle, are dropped.
  ///
  /// - Throws: `FileError`.
  public init(resuming path: String, after step: Int) throws {
    let lines = (FileManager.default.contents(atPath: path) ?? Data()).split(separator: UInt8(ascii: "\n"))
    let kept = lines.filter { line in Self.step(of: Array(line)).map { $0 <= step } ?? false }
    try self.init(path, text: kept.flatMap { $0 + [UInt8(ascii: "\n")] })
  }

  private init(_ path: String, text: [UInt8]) throws {
    try AtomicFile.write(to: path) { file in try file.write(text.span) }
    guard let file = FileHandle(forWritingAtPath: path), (try? file.seekToEnd()) != nil else {
      throw FileError(path: path, reason: .refused(operation: "open", code: EACCES))
    }
    self.path = path
    self.file = file
  }

  private static func step(of line: [UInt8]) -> Int? {
    guard let value = try? JSONValue(parsing: line, file: ""), case .object(let members) = value,
      case .integer(let step)? = members.first(where: { $0.key == "step" })?.value
    else { return nil }
    return step
  }

  /// Appends a step's line.
  public func write(_ report: StepReport, seconds: Double) throws(FileError) {
    try write(
      report.step,
      [
        ("loss", report.loss), ("mse", report.mse), ("vb", report.vb), ("seq", report.seq),
        ("gradient_norm", report.gradientNorm), ("learning_rate", report.learningRate),
      ], counter: ("samples", report.samplesSeen), seconds: seconds)
  }

  /// Appends a validation's line.
  public func write(_ report: ValidationReport) throws(FileError) {
    try write(
      report.step,
      [
        ("validation_loss", report.loss), ("validation_mse", report.mse), ("validation_vb", report.vb),
        ("validation_seq", report.seq),
      ],
      counter: ("validation_samples", report.samples))
  }

  private func write(
    _ step: Int, _ values: [(name: String, value: Double?)], counter: (name: String, value: Int),
    seconds: Double? = nil
  ) throws(FileError) {
    var line = #"{"step":\#(step)"#
    for (name, value) in values {
      if let value { line += #","\#(name)":\#(value)"# }
    }
    line += #","\#(counter.name)":\#(counter.value)"#
    if let seconds { line += #","seconds":\#((seconds * 1e6).rounded() / 1e6)"# }
    try AtomicFile.write(Array("\(line)}\n".utf8).span, to: file.fileDescriptor, path: path)
  }
}
