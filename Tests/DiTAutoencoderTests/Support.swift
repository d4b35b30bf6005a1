// An autoencoder whose weights follow from its tensors' names, as Scripts/fixtures/autoencoder.py makes them.

import DiTAutoencoder
import DiTCheckpoint
import DiTKernels
import DiTPipeline
import DiTTensor
import Foundation
import TestSupport

/// What diffusers made of a configuration.
struct Case {
  let file: SafetensorsFile
  let name: String
  /// diffusers' names and shapes.
  let shapes: [StateDict.Key]
  /// CompVis's name for each of diffusers'.
  let compVis: [String: String]

  static let names = ["tiny", "odd"]

  init(_ name: String) throws {
    self.name = name
    file = try SafetensorsFile(contentsOf: Fixture.path("\(name).safetensors", folder: "autoencoder"))
    guard case .object(let shapes) = try Self.json(file, "shapes"),
      case .object(let names) = try Self.json(file, "compvis")
    else { throw CocoaError(.coderInvalidValue) }
    self.shapes = shapes.map { member in
      guard case .array(let extents) = member.value else { return (member.key, []) }
      return (member.key, extents.map { if case .integer(let n) = $0 { n } else { 0 } })
    }
    compVis = Dictionary(
      uniqueKeysWithValues: names.map { member in
        guard case .string(let name) = member.value else { return (member.key, "") }
        return (member.key, name)
      })
  }

  private static func json(_ file: SafetensorsFile, _ key: String) throws -> JSONValue {
    try JSONValue(parsing: Array((file.metadata[key] ?? "").utf8), file: file.path)
  }

  /// config.json as diffusers wrote it.
  var config: String { file.metadata["config"] ?? "" }

  /// The inputs and outputs of each size.
  var runs: [Int] { (0..<8).filter { file.entry(named: "\($0).latents") != nil } }

  /// All weights, renamed and reshaped.
  func weights(
    _ rename: (String) -> String = { $0 }, shape: (String, [Int]) -> [Int] = { $1 }
  ) -> [TensorSource] {
    shapes.map { name, extents in
      TensorSource(rename(name), Tensor(shape: shape(name, extents), elements: madeWeight(name, extents)))
    }
  }

  /// A directory as `save_pretrained` writes it.
  func write(to folder: URL) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try config.write(to: folder.appending(path: "config.json"), atomically: true, encoding: .utf8)
    try SafetensorsWriter.write(weights(), to: folder.path() + "/diffusion_pytorch_model.safetensors")
  }
}

/// See `weight` in Scripts/fixtures/autoencoder.py.
func madeWeight(_ name: String, _ shape: [Int]) -> [Float] {
  let state = name.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  let count = shape.reduce(1, *)
  let size: Float =
    shape.count > 1 ? Float(exp2(log2(1.6 / Double(count / shape[0]).squareRoot()).rounded(.toNearestOrEven))) : 0.25
  let base: Float = shape.count > 1 ? 0 : name.contains("norm") && name.hasSuffix("weight") ? 1 : 0
  return (1...count).map { i in
    var z = state &+ UInt64(i) &* 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    z ^= z >> 31
    return (Float(z >> 40) / 8_388_608 - 1) * size + base
  }
}

/// Runs `body` with a new directory that is gone afterwards.
func withDirectory<Result>(_ body: (URL) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appending(path: "dit-autoencoder-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder)
}

/// max|a−b| / max|b|; infinite for other shapes or NaN.
func relative(_ found: Tensor, _ expected: Tensor) -> Double {
  guard found.shape == expected.shape else { return .infinity }
  var (worst, scale) = (0.0, 0.0)
  for i in found.elements.indices {
    let error = abs(Double(found.elements[i]) - Double(expected.elements[i]))
    worst = error.isNaN ? .infinity : max(worst, error)
    scale = max(scale, abs(Double(expected.elements[i])))
  }
  return worst / scale
}
