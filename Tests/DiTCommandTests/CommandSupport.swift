import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

/// The fixture model directories.
enum Model {
  /// 1×8×8, ten classes, a null class; trained a little.
  static let digits = Fixture.path("digits")
  /// 4×8×8, seven classes.
  static let latent = Fixture.path("latent")
  /// 3×12×20.
  static let oblong = Fixture.path("oblong")
  /// 2×3×5, no label table.
  static let unconditional = Fixture.path("unconditional")
  /// 3×6×6, six classes, no null class.
  static let noNull = Fixture.path("nonull")
}

/// A run that must succeed.
func succeed(_ arguments: [String], environment: [String: String?] = [:]) async throws -> Tool.Result {
  let result = try await Tool.run(arguments, environment: environment)
  try #require(result.status == 0, "dit \(arguments.joined(separator: " ")): \(result.status), \(result.stderr)")
  return result
}

/// Expects an exit status, and a first line on stderr with these words; nothing on stdout.
func expectFailure(
  _ arguments: [String], _ status: Int32, _ words: [String], sourceLocation: SourceLocation = #_sourceLocation
) async throws {
  let result = try await Tool.run(arguments)
  let isExpected =
    result.status == status && result.error.hasPrefix("Error: ") && words.allSatisfy(result.error.contains)
    && result.stdout.isEmpty
  #expect(
    isExpected, "expected \(status) and \(words), found \(result.status), stderr: \(result.stderr) \(result.stdout)",
    sourceLocation: sourceLocation)
}

extension Scratch {
  /// Writes tensors and returns the file's path.
  func write(_ tensors: [TensorSource], to name: String) throws -> String {
    try SafetensorsWriter.write(tensors, to: path(name))
    return path(name)
  }

  func tensors(_ name: String) throws -> SafetensorsFile { try SafetensorsFile(contentsOf: path(name)) }
}

extension TensorSource {
  init(_ name: String, labels: [Int]) { self.init(name, shape: [labels.count], integers: labels) }
}

extension SafetensorsFile {
  func floats(_ name: String) throws -> [Float] { try tensor(name).elements }
}

/// What trajectories agree to with the Double run.
let trajectoryTolerance = 1e-4
/// What one forward pass agrees to.
let outputTolerance = 1e-5
/// What gradients agree to.
let gradientTolerance = 1e-4

/// max|found − expected| / max|expected|; infinite where counts differ or a number is not finite.
func relativeError(_ found: [Float], _ expected: [Double]) -> Double {
  guard found.count == expected.count else { return .infinity }
  let largest = expected.reduce(0) { max($0, abs($1)) }
  let errors = zip(found, expected).map { abs(Double($0) - $1) }
  return errors.allSatisfy(\.isFinite) ? errors.reduce(0, max) / largest : .infinity
}
