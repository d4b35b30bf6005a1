import DiTModel
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Sizes, what is refused, and the published configurations with their parameters.
@Suite("Configurations: published sizes, parameters and refusals") struct ConfigurationTests {
  /// parameters.json: what torch and diffusers count.
  private struct Published: Decodable {
    struct Model: Decodable {
      let inputSize: [Int]
      let patchSize, inChannels, hiddenSize, depth, numHeads, numClasses: Int
      let tensors, parameters, trainable: Int

      var sizes: [Int] { inputSize + [patchSize, inChannels, hiddenSize, depth, numHeads, numClasses] }
    }

    struct Entry: Decodable, Equatable {
      let name: String
      let shape: [Int]

      init(name: String, shape: [Int]) {
        self.name = name
        self.shape = shape
      }

      init(from decoder: any Decoder) throws {
        var list = try decoder.unkeyedContainer()
        name = try list.decode(String.self)
        shape = try list.decode([Int].self)
      }
    }

    enum CodingKeys: String, CodingKey {
      case models
      case largest = "DiT-XL/2 tensors"
    }

    let models: [String: Model]
    let largest: [Entry]

    static func read() throws -> Published {
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      return try decoder.decode(
        Published.self, from: Data(contentsOf: URL(filePath: Fixture.path("parameters.json"))))
    }
  }

  @Test("The twelve published names are known, and no others")
  func publishedNames() throws {
    let names = try Published.read().models.keys.filter { !$0.hasSuffix("at 512") }
    #expect(DiTConfiguration.publishedNames.sorted() == names.sorted())
    #expect(DiTConfiguration.publishedNames.count == 12)
    for name in ["DiT-S/3", "DiT-XXL/2", "dit-S/2", "DiT-S", "S/2", ""] {
      #expect(DiTConfiguration.published(name) == nil, "\(name)")
    }
  }

  @Test(
    "Each published model has the sizes and parameters that PyTorch counts",
    arguments: DiTConfiguration.publishedNames + ["DiT-XL/2 at 512"])
  func published(_ name: String) throws {
    let expected = try #require(try Published.read().models[name])
    var c = try #require(DiTConfiguration.published(name.replacing(" at 512", with: "")))
    if name.hasSuffix("at 512") { (c.inputHeight, c.inputWidth) = (64, 64) }
    let sizes = [
      c.inputHeight, c.inputWidth, c.patchSize, c.inChannels, c.hiddenSize, c.depth, c.numHeads, c.numClasses,
    ]
    #expect(sizes == expected.sizes)
    #expect(c.mlpRatio == 4 && c.learnSigma && c.hasNullClass && c.labelRows == 1001)
    try c.validate()
    let table = ParameterTable(c)
    #expect(table.parameters.count == expected.tensors)
    #expect(table.parameterCount == expected.parameters)
    #expect(table.trainableCount == expected.trainable)
  }

  /// Pixels at 256²: 1024, 256 or 64 tokens of 3P² numbers, D = 1024, 16 heads.
  @Test(
    "Each pixel-space model has the sizes and parameters counted by hand",
    arguments: DiTConfiguration.pixelSpaceNames)
  func pixelSpace(_ name: String) throws {
    let c = try #require(DiTConfiguration.pixelSpace(name))
    try c.validate()
    let patch = try #require(name.split(separator: "/").last.flatMap { Int($0) })
    #expect(c.depth == (name.contains("Base") ? 12 : 36))
    #expect(c.tokens == (256 / patch) * (256 / patch) && c.inputGrid.patchElements == 3 * patch * patch)
    #expect(c.headSize == 64 && c.hiddenSize == 1024 && c.inChannels == 3)
    #expect(DiTConfiguration.published(name) == nil && DiTConfiguration.named(name) == c)
    // Counted by hand: blocks of 18 D² + 15 D, ends of 3P² · D and D · 6P².
    let d = 1024
    let blocks = c.depth * (18 * d * d + 15 * d)
    let ends = 3 * patch * patch * d + d + 6 * patch * patch * (d + 1) + 2 * d * d + 2 * d
    let rest = c.tokens * d + (256 * d + d) + (d * d + d) + 1001 * d
    #expect(ParameterTable(c).parameterCount == blocks + ends + rest)
  }

  @Test("Names close to pixel-space models are unknown")
  func unknownPixelSpaceNames() {
    for name in ["DiT-Base/4", "DiT-Huge/16", "DiT-Base", "DiT-Base/016"] {
      #expect(DiTConfiguration.pixelSpace(name) == nil, "\(name)")
    }
  }

  /// Names, shapes and order of DiT-XL/2; the others' follow from the counts.
  @Test("The tensors of DiT-XL/2 have the published names, shapes and order")
  func publishedTensors() throws {
    let c = try #require(DiTConfiguration.published("DiT-XL/2"))
    let found = ParameterTable(c).parameters.map { Published.Entry(name: $0.name, shape: $0.shape) }
    let expected = try Published.read().largest
    let first = zip(found, expected).first { $0 != $1 }
    #expect(first == nil, "(found, expected)")
    #expect(found.count == expected.count)
  }

  /// The names and shapes that the fixtures' state dicts have, no more and no fewer.
  @Test("The parameters have the names and shapes of the fixtures' state dicts", arguments: Case.fixtures)
  func stateDict(_ name: String) throws {
    let table = ParameterTable(try Case(fixture: name).configuration)
    let model = try Fixture("\(name)/model")
    #expect(table.parameters.map(\.name).sorted() == model.names.sorted())
    for parameter in table.parameters {
      try #expect(parameter.shape == model.shape(parameter.name), "\(parameter.name)")
    }
  }

  /// Tensors lie one after another, each on a cache line; the position table, not trained, is first.
  @Test(
    "Parameters lie one after another on cache lines, the untrained positions first",
    arguments: [Case.tiny, .long])
  func layout(_ batch: Case) throws {
    let table = batch.weights.table
    var next = 0
    for parameter in table.parameters {
      #expect(parameter.offset == next && parameter.offset % 16 == 0, "\(parameter.name)")
      next = (parameter.offset + parameter.count + 15) / 16 * 16
    }
    #expect(table.elementCount == next)
    #expect(table.parameters[0].name == "pos_embed")
    #expect(table.trainable == [table.parameters[1].offset..<next])
    #expect(table.trainableParameters == Array(table.parameters.dropFirst()))
    #expect(table.parameter(named: "blocks.1.mlp.fc2.bias")?.shape == [batch.configuration.hiddenSize])
    #expect(table.parameter(named: "blocks.2.mlp.fc2.bias") == nil)
  }

  @Test("What is trained are the ranges between fixed tensors, padding included")
  func trainedRanges() {
    var builder = ParameterBuilder()
    #expect(builder.trainable.isEmpty)
    _ = builder.add("a", [3, 5], .zero)
    _ = builder.add("b", [16], .zero)
    _ = builder.add("c", [17], .zero, isTrained: false)
    _ = builder.add("d", [1], .zero)
    _ = builder.add("e", [2], .zero, isTrained: false)
    #expect(builder.trainable == [0..<32, 64..<80])
  }

  /// The paper's "Gflops", which are multiply-adds, to their last digit and 0.02 % (what it leaves out of the ends).
  @Test(
    "Multiply-adds are the paper's Gflops",
    arguments: [
      ("DiT-S/2", 6.06), ("DiT-B/2", 23.01), ("DiT-L/2", 80.71), ("DiT-XL/2", 118.64), ("DiT-XL/2 at 512", 524.60),
    ])
  func multiplyAdds(_ name: String, _ published: Double) throws {
    var c = try #require(DiTConfiguration.published(name.replacing(" at 512", with: "")))
    if name.hasSuffix("at 512") { (c.inputHeight, c.inputWidth) = (64, 64) }
    #expect(abs(Double(c.multiplyAdds) / 1e9 - published) < 0.005 + 2e-4 * published, "\(c.multiplyAdds)")
  }

  @Test("Derived sizes follow from the configured ones")
  func derivedSizes() {
    let c = DiTConfiguration(
      inputHeight: 12, inputWidth: 20, patchSize: 4, inChannels: 3, hiddenSize: 40, depth: 1, numHeads: 5,
      mlpRatio: 2.5,
      numClasses: 5)
    #expect(c.tokens == 15 && c.headSize == 8 && c.mlpSize == 100 && c.outChannels == 6 && c.labelRows == 6)
    #expect(c.imageElements == 720 && c.outputElements == 1440)
    var plain = c
    (plain.learnSigma, plain.classDropoutProb) = (false, 0)
    #expect(plain.outChannels == 3 && plain.labelRows == 5 && !plain.hasNullClass)
    (plain.classDropoutProb, plain.numClasses) = (0.1, 0)
    #expect(plain.labelRows == 0 && !plain.hasNullClass)
  }

  private struct Refusal: CustomTestStringConvertible, Sendable {
    let key, found: String
    let change: @Sendable (inout DiTConfiguration) -> Void
    var testDescription: String { "\(key) \(found)" }

    init(_ key: String, _ found: String, _ change: @escaping @Sendable (inout DiTConfiguration) -> Void) {
      (self.key, self.found, self.change) = (key, found, change)
    }
  }

  private static let refusals = [
    Refusal("input_size", "0") { $0.inputHeight = 0 }, Refusal("input_size", "-8") { $0.inputWidth = -8 },
    Refusal("patch_size", "0") { $0.patchSize = 0 }, Refusal("patch_size", "5") { $0.patchSize = 5 },
    Refusal("patch_size", "32×30") { ($0.patchSize, $0.inputWidth) = (4, 30) },
    Refusal("in_channels", "0") { $0.inChannels = 0 },
    Refusal("in_channels", "9223372036854775807") { $0.inChannels = .max },
    Refusal("hidden_size", "0") { $0.hiddenSize = 0 },
    Refusal("hidden_size", "6") { ($0.hiddenSize, $0.numHeads) = (6, 3) },
    Refusal("depth", "0") { $0.depth = 0 }, Refusal("depth", "1025") { $0.depth = 1025 },
    Refusal("num_heads", "0") { $0.numHeads = 0 }, Refusal("num_heads", "7") { $0.numHeads = 7 },
    Refusal("mlp_ratio", "0.0") { $0.mlpRatio = 0 }, Refusal("mlp_ratio", "-4.0") { $0.mlpRatio = -4 },
    Refusal("mlp_ratio", "nan") { $0.mlpRatio = .nan }, Refusal("mlp_ratio", "inf") { $0.mlpRatio = .infinity },
    Refusal("mlp_ratio", "0.001") { $0.mlpRatio = 0.001 },
    Refusal("num_classes", "-1") { $0.numClasses = -1 },
    Refusal("num_classes", "9223372036854775807") { $0.numClasses = .max },
    Refusal("class_dropout_prob", "1.0") { $0.classDropoutProb = 1 },
    Refusal("class_dropout_prob", "-0.1") { $0.classDropoutProb = -0.1 },
    Refusal("class_dropout_prob", "nan") { $0.classDropoutProb = .nan },
    Refusal("hidden_size", "parameters") { ($0.hiddenSize, $0.depth, $0.numHeads) = (1 << 16, 1 << 10, 1) },
    // More parameters than an Int counts.
    Refusal("hidden_size", "parameters") { ($0.hiddenSize, $0.depth, $0.numHeads) = (1 << 20, 1024, 1) },
    // Few parameters, and 2³² tokens: more multiply-adds than an Int counts.
    Refusal("input_size", "multiply-adds") {
      ($0.inputHeight, $0.inputWidth, $0.patchSize, $0.inChannels) = (1 << 16, 1 << 16, 1, 1)
      ($0.hiddenSize, $0.depth, $0.numHeads) = (4, 1, 1)
    },
  ]

  @Test("An impossible configuration is refused in one line with key and value", arguments: refusals)
  private func refused(_ refusal: Refusal) {
    var c = DiTConfiguration()
    refusal.change(&c)
    let error = #expect(throws: DiTError.self) { try c.validate() }
    #expect(error?.key == refusal.key)
    let message = error?.description ?? ""
    #expect(message.hasPrefix("\(refusal.key): ") && message.contains(refusal.found) && !message.contains("\n"))
  }

  @Test("The fixtures' configurations are accepted", arguments: Case.fixtures)
  func accepted(_ name: String) throws {
    try Case(fixture: name).configuration.validate()
  }
}
