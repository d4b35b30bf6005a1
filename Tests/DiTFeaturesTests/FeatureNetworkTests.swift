import DiTFeatures
import DiTFiles
import DiTKernels
import DiTTensor
import Foundation
import Synchronization
import TestSupport
import Testing

/// `picture` of Scripts/fixtures/features.py: ramps with grain, (C, H, W) in 0 … 255.
private struct Picture: Sendable {
  let shape: (channels: Int, height: Int, width: Int)
  let pixels: [Float]

  static let all = [(3, 40, 32), (3, 230, 340), (1, 28, 28)].map { Picture($0, $1, $2) }

  init(_ channels: Int, _ height: Int, _ width: Int) {
    shape = (channels, height, width)
    let grain = hashed("picture \(height)", channels * height * width)
    pixels = grain.indices.map { index in
      let (c, y, x) = (index / (height * width), index / width % height, index % width)
      return Float(abs((3 * x + 2 * y + 40 * c) % 128 - 64) * 3 + Int(64 * grain[index]))
    }
  }

  func copy(into target: inout MutableSpan<Float>) {
    for i in target.indices { target[i] = pixels[i] }
  }
}

@Suite("Networks whose features pictures are measured by") struct FeatureNetworkTests {
  private let context: ComputeContext

  init() throws { context = try ComputeContext(threads: 2) }

  private func outputs(
    _ network: FeatureNetwork, _ wanted: [FeatureOutput], _ picture: Picture, _ resize: PictureResize?, count: Int = 1
  ) throws -> [[Float]] {
    try network.outputs(wanted, count: count, shape: picture.shape, resize: resize) { _, target in
      picture.copy(into: &target)
    }
  }

  /// Output by output, the largest difference over the largest number.
  private func check(_ found: [Float], _ fixture: Fixture, _ name: String) throws {
    let expected = try fixture.floats(name)
    try #require(found.count == expected.count, "\(name): \(found.count) numbers")
    let largest = expected.reduce(0) { max($0, abs($1)) }
    let error = relativeError(found, expected)
    #expect(largest > 1 && error <= 3e-5, "\(name): off by \(error) of the largest")
  }

  @Test("Inception's features, spatial features and classes are those of pytorch-fid, torch-fidelity and clean-fid")
  func inception() throws {
    let network = try FeatureNetwork(HashedWeights("inception"), context: context)
    #expect(network.kind == .inceptionV3 && network.side == 299 && network.resize == .pytorchFID)
    #expect(FeatureOutput.allCases.map { network.count(of: $0) } == [2048, 2023, 1008])
    let fixture = try Fixture("inception", folder: "features")
    for picture in Picture.all {
      for resize in [PictureResize.pytorchFID, .torchFidelity, .cleanFID] {
        let outputs: [FeatureOutput] = resize == .torchFidelity ? [.logits, .features] : [.features, .spatial]
        let found = try self.outputs(network, outputs, picture, resize)
        for (output, numbers) in zip(outputs, found) {
          try check(numbers, fixture, "\(resize.rawValue).\(picture.shape.height).\(output.rawValue)")
        }
      }
    }
  }

  @Test("EfficientNet-Lite0's features and classes are those of its port to PyTorch")
  func efficientNet() throws {
    let network = try FeatureNetwork(HashedWeights("efficientnet"), context: context)
    #expect(network.kind == .efficientNetLite0 && network.side == 224 && network.resize == .efficientNetLite)
    #expect(FeatureOutput.allCases.map { network.count(of: $0) } == [1280, nil, 1000])
    let fixture = try Fixture("efficientnet", folder: "features")
    for picture in Picture.all {
      let found = try outputs(network, [.features, .logits], picture, nil)
      for (output, numbers) in zip(["features", "logits"], found) {
        try check(numbers, fixture, "efficientnet-lite.\(picture.shape.height).\(output)")
      }
    }
  }

  @Test("A picture's features have the same bits alone, among others, and on another number of threads")
  func independence() throws {
    let (one, two) = (try ComputeContext(threads: 1), context)
    let weights = try HashedWeights("efficientnet")
    let networks = try [one, two].map { try FeatureNetwork(weights, context: $0) }
    let picture = Picture.all[0]
    let alone = try outputs(networks[0], [.features, .logits], picture, nil)
    let among = try networks[1].outputs([.logits, .features], count: 5, shape: picture.shape) { index, target in
      picture.copy(into: &target)
      if index != 3 { for i in target.indices { target[i] = 255 - target[i] } }
    }
    #expect(Array(among[1][3 * 1280..<4 * 1280]) == alone[0])
    #expect(Array(among[0][3 * 1000..<4 * 1000]) == alone[1])
    #expect(Array(among[1][0..<1280]) != alone[0] && Array(among[1][0..<1280]) == Array(among[1][1280..<2560]))
    #expect(try networks[0].outputs([.features], count: 0, shape: picture.shape) { _, _ in } == [[]])
  }

  @Test("A picture that cannot be read ends it with its error, the first of several")
  func unreadable() throws {
    let network = try FeatureNetwork(HashedWeights("efficientnet"), context: context)
    let read = Mutex<Set<Int>>([])
    let error = #expect(throws: DiTError.self) {
      _ = try network.outputs([.features], count: 40, shape: (1, 8, 8)) { index, _ throws(DiTError) in
        read.withLock { _ = $0.insert(index) }
        if index >= 2 { throw DiTError(file: "picture \(index)", expected: "one", found: "none") }
      }
    }
    #expect(error?.name == "picture 2" && read.withLock { $0.count } < 10, "\(String(describing: error))")
  }

  @Test("Files are recognized by their tensors; missing, misshapen and unusable ones are refused by name")
  func refused() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "features-\(UUID())").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let weights = try HashedWeights("efficientnet")
    func failure(_ change: (inout HashedWeights) -> Void) throws -> DiTError? {
      var changed = weights
      change(&changed)
      return #expect(throws: DiTError.self) { try FeatureNetwork(changed, context: context) }
    }
    let (norm, stem) = ("_blocks.3._bn1", "_conv_stem.weight")
    let missing = try failure { $0.keys.removeAll { $0.name == "\(norm).bias" } }
    #expect(missing?.subject.part == .tensor("\(norm).bias") && missing?.found == "none of that name")
    let misshapen = try failure { weights in
      let place = weights.keys.firstIndex { $0.name == stem } ?? 0
      weights.keys[place] = StateDict.Key(stem, [32, 3, 5, 5])
    }
    #expect(misshapen?.subject.part == .tensor(stem) && misshapen?.found == "[32, 3, 5, 5]")
    let infinite = try failure { $0.replaced["_fc.bias"] = [Float](repeating: 0, count: 999) + [.infinity] }
    #expect(infinite?.subject.part == .tensor("_fc.bias") && infinite?.found == "inf at element 999")
    let negative = try failure { $0.replaced["_bn0.running_var"] = [Float](repeating: 1, count: 31) + [-1] }
    #expect(negative?.subject.part == .tensor("_bn0.running_var") && negative?.found == "-1.0 at element 31")
    let other = try failure { $0.keys = [StateDict.Key("x_embedder.proj.weight", [4, 4, 2, 2])] }
    #expect(other?.expected == "those of FID's Inception-v3 or of EfficientNet-Lite0")
    #expect(other?.found == "x_embedder.proj.weight")

    let path = folder + "/lite.safetensors"
    let tensors = try weights.keys.map { key in
      TensorSource(key.name, Tensor(shape: key.shape, elements: try weights.slice(key.name).array))
    }
    try SafetensorsWriter.write(tensors, to: path)
    let read = try FeatureNetwork(contentsOf: path, context: context)
    #expect(read.path == path)
    let made = try FeatureNetwork(weights, context: context)
    let picture = Picture.all[2]
    #expect(try outputs(read, [.features], picture, nil) == outputs(made, [.features], picture, nil))
  }
}
