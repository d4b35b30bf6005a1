// What the tests of this target share: fixtures, error measures, small models, temporary directories.

import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation

/// Tests/Fixtures/network/…
func networkFixture(_ path: String) -> String {
  URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/network/\(path)").path(percentEncoded: false)
}

/// The cases of Tests/Fixtures/network/README.md.
let networkCases = ["digits", "latent", "oblong", "unconditional", "head72", "nonull", "pixels"]

func open(_ path: String) throws -> SafetensorsFile { try SafetensorsFile(contentsOf: networkFixture(path)) }

extension SafetensorsFile {
  /// Labels `y`, none where the file has none.
  func labels() throws -> [Int] { try entry(named: "y") == nil ? [] : integers("y").values }
}

/// How far `found` is from `expected`: max|a−b| / max|b|, infinite where shapes differ or a value is not a number.
struct Difference: CustomStringConvertible {
  let relative: Double
  private let text: String

  init(_ found: Tensor, _ expected: Tensor) {
    guard found.shape == expected.shape else {
      relative = .infinity
      text = "shape \(found.shape), expected \(expected.shape)"
      return
    }
    var (worst, index, scale) = (0.0, 0, 0.0)
    for i in found.elements.indices {
      let error = abs(Double(found.elements[i]) - Double(expected.elements[i]))
      if !(error <= worst) { (worst, index) = (error.isNaN ? .infinity : error, i) }
      scale = max(scale, abs(Double(expected.elements[i])))
    }
    relative = scale > 0 ? worst / scale : worst
    text = "max abs \(worst) at \(index) of \(found.shape), relative \(relative)"
  }

  init(_ found: [Double], _ expected: [Double]) {
    // Through Float: losses are compared to 1e-5.
    self.init(
      Tensor(shape: [found.count], elements: found.map { Float($0) }),
      Tensor(shape: [expected.count], elements: expected.map { Float($0) }))
  }

  var description: String { text }
}

/// A small network with weights that are nowhere zero: the initialization's zeros would hide mistakes.
func randomModel(
  _ network: DiTConfiguration, threads: Int = 1, seed: UInt64 = 7, sampling: SamplingConfiguration? = nil
) throws -> DiT {
  let configuration = ModelConfiguration(network: network, sampling: sampling)
  return try DiT(
    configuration: configuration, weights: randomWeights(network, seed: seed),
    context: ComputeContext(threads: threads, workers: threads)
  )
}

func randomWeights(_ network: DiTConfiguration, seed: UInt64 = 7) -> Weights {
  let table = ParameterTable(network)
  let flat = MutableFloatSlice(zeros: table.elementCount)
  for (index, parameter) in table.parameters.enumerated() {
    if parameter.name == "pos_embed" {
      parameter.initialize(flat[parameter.range], network, seed: seed, stream: 0)
    } else {
      var random = Philox(seed: seed, stream: UInt64(index))
      let values = flat[parameter.range]
      for (i, value) in random.normal(count: parameter.count).enumerated() { values[i] = 0.1 * value }
    }
  }
  return Weights(table, flat: flat.reading)
}

/// 3×6×10 input, odd token grid, four classes.
let smallNetwork = DiTConfiguration(
  inputHeight: 6, inputWidth: 10, patchSize: 2, inChannels: 3, hiddenSize: 24, depth: 2, numHeads: 3, numClasses: 4)

func normal(_ shape: [Int], seed: UInt64) -> Tensor {
  var random = Philox(seed: seed)
  return Tensor(shape: shape, elements: random.normal(count: shape.reduce(1, *)))
}

/// A directory that lasts as long as the object.
final class TemporaryDirectory {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appending(path: "dit-pipeline-\(UUID())").path(percentEncoded: false)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The path of a file in the directory.
  func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }

  /// Writes a file and returns its path.
  func write(_ text: String, to name: String) throws -> String {
    try AtomicFile.write(text, to: self(name))
    return self(name)
  }
}
