// An autoencoder whose weights follow from its tensors' names, as Scripts/fixtures/autoencoder.py makes them.

import DiTFiles
import DiTTensor
import Foundation

/// What diffusers made of a configuration.
public struct AutoencoderFixture {
  public let file: SafetensorsFile
  public let name: String
  /// diffusers' names and shapes.
  public let shapes: [StateDict.Key]
  /// CompVis's name for each of diffusers'.
  public let compVis: [String: String]

  public static let names = ["tiny", "odd", "shifted", "standardised", "attending"]

  public init(_ name: String) throws {
    self.name = name
    file = try SafetensorsFile(contentsOf: Fixture.path("\(name).safetensors", folder: "autoencoder"))
    let shapes = try JSONDecoder().decode([String: [Int]].self, from: Data((file.metadata["shapes"] ?? "").utf8))
    self.shapes = shapes.keys.sorted().map { ($0, shapes[$0] ?? []) }
    compVis = try JSONDecoder().decode([String: String].self, from: Data((file.metadata["compvis"] ?? "").utf8))
  }

  /// config.json as diffusers wrote it.
  public var config: String { file.metadata["config"] ?? "" }

  /// The inputs and outputs of each size.
  public var runs: [Int] { (0..<8).filter { file.entry(named: "\($0).latents") != nil } }

  /// All weights, renamed and reshaped.
  public func weights(
    _ rename: (String) -> String = { $0 }, shape: (String, [Int]) -> [Int] = { $1 }
  ) -> [TensorSource] {
    shapes.map { name, extents in
      TensorSource(rename(name), Tensor(shape: shape(name, extents), elements: madeWeight(name, extents)))
    }
  }

  /// A directory as `save_pretrained` writes it.
  public func write(to folder: URL, weights name: String = "diffusion_pytorch_model.safetensors") throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try config.write(to: folder.appending(path: "config.json"), atomically: true, encoding: .utf8)
    try SafetensorsWriter.write(weights(), to: folder.path() + "/\(name)")
  }
}

/// See `weight` in Scripts/fixtures/autoencoder.py.
public func madeWeight(_ name: String, _ shape: [Int]) -> [Float] {
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
