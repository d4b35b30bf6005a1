import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import Testing

/// Models of parts that are not the published DiT's, on the disk.
@Suite("Model directories of networks of other parts") struct PartModelTests {
  /// A network of 3×5 patches, and the tensors that only its part has or lacks.
  struct Example: CustomTestStringConvertible, Sendable {
    let name: String
    let network: DiTConfiguration
    /// Shapes by name; nil where the part leaves a tensor out.
    let tensors: [String: [Int]?]

    /// One that is told guidance is of a linear path.
    var configuration: ModelConfiguration {
      guard network.isToldGuidance else { return ModelConfiguration(network: network) }
      return ModelConfiguration(
        network: network, diffusion: DiffusionConfiguration(path: .linear, prediction: .x0, networkTime: .s))
    }

    var testDescription: String { name }

    init(_ name: String, _ tensors: [String: [Int]?], _ edit: (inout DiTConfiguration) -> Void) {
      (self.name, self.tensors) = (name, tensors)
      var network = smallNetwork
      edit(&network)
      self.network = network
    }
  }

  static let examples: [Example] = [
    Example(
      "rms", ["blocks.1.norm1.weight": [24], "final_layer.norm_final.weight": [24], "blocks.1.norm1.bias": nil]
    ) {
      $0.norm = .rms
    },
    Example(
      "rms, in_context",
      ["blocks.0.norm2.weight": [24], "blocks.0.norm2.bias": nil, "final_layer.norm_final.bias": nil]
    ) { ($0.norm, $0.conditioning) = (.rms, .inContext) },
    Example(
      "swiglu",
      [
        "blocks.1.mlp.w12.weight": [34, 24], "blocks.1.mlp.w12.bias": [34], "blocks.1.mlp.w3.weight": [24, 17],
        "blocks.1.mlp.w3.bias": [24], "blocks.1.mlp.fc1.weight": nil,
      ]
    ) { ($0.mlp, $0.mlpHidden) = (.swiglu, 17) },
    Example("qk_norm", ["blocks.0.attn.q_norm.weight": [8], "blocks.1.attn.k_norm.weight": [8]]) { $0.qkNorm = true },
    Example("sincos+rope", ["pos_embed": [1, 15, 24]]) { $0.position = .sincosRope },
    Example("learned+rope", ["pos_embed": [1, 15, 24]]) { $0.position = .learnedRope },
    Example(
      "bottleneck",
      [
        "x_embedder.proj1.weight": [5, 3, 2, 2], "x_embedder.proj1.bias": [5],
        "x_embedder.proj2.weight": [24, 5, 1, 1],
        "x_embedder.proj2.bias": [24], "x_embedder.proj.weight": nil,
      ]
    ) { $0.patchBottleneck = 5 },
    Example("bottleneck without bias", ["x_embedder.proj1.bias": nil, "x_embedder.proj2.bias": [24]]) {
      ($0.patchBottleneck, $0.bias.patchBottleneck) = (5, false)
    },
    Example("in-context tokens", ["in_context_posemb": [1, 3, 24]]) {
      ($0.inContextTokens, $0.inContextStart) = (3, 1)
    },
    Example("vector gates", ["blocks.1.attn_scale": [24], "blocks.1.mlp_scale": [24]]) {
      ($0.conditioning, $0.residualGates) = (.adaLN, .vector)
    },
    Example(
      "no biases",
      [
        "blocks.0.attn.qkv.bias": nil, "blocks.0.attn.proj.bias": nil, "blocks.0.mlp.fc1.bias": nil,
        "blocks.0.mlp.fc2.bias": nil, "blocks.0.adaLN_modulation.1.bias": [144], "final_layer.linear.bias": [24],
      ]
    ) { ($0.bias.qkv, $0.bias.proj, $0.bias.mlp) = (false, false, false) },
    Example("tokens of time and class", ["class_tokens": [1, 2, 24], "time_tokens": [1, 1, 24], "omega_tokens": nil]) {
      ($0.conditioning, $0.tokenGroups) = (.tokens, TokenGroups(classes: 2, time: 1))
    },
    Example(
      "tokens",
      [
        "class_tokens": [1, 2, 24], "omega_tokens": [1, 3, 24], "t_min_tokens": nil, "t_max_tokens": [1, 1, 24],
        "time_tokens": [1, 2, 24], "h_embedder.mlp.0.weight": [24, 256], "omega_embedder.mlp.2.bias": [24],
        "cfg_t_start_embedder.mlp.0.weight": nil, "cfg_t_end_embedder.mlp.0.bias": [24],
        "t_embedder.mlp.0.weight": nil, "blocks.0.adaLN_modulation.1.weight": nil, "pos_embed": [1, 23, 24],
        "y_embedder.embedding_table.weight": [5, 24],
      ]
    ) {
      ($0.conditioning, $0.position) = (.tokens, .learned)
      $0.tokenGroups = TokenGroups(classes: 2, omega: 3, tMax: 1, time: 2)
    },
  ]

  private func weights(_ network: DiTConfiguration, seed: UInt64 = 11) -> Weights {
    let (weights, flat) = Weights.initialized(network, seed: seed)
    for (index, parameter) in weights.table.trainableParameters.enumerated() {
      var random = Philox(seed: seed, stream: UInt64(index))
      let values = flat[parameter.range]
      for (i, value) in random.normal(count: parameter.count).enumerated() { values[i] = 0.3 + 0.1 * value }
    }
    return weights
  }

  @Test("A model of each part is written with its tensors and read back equal", arguments: examples)
  func comesBackEqual(_ example: Example) throws {
    let temporary = try TemporaryDirectory()
    let configuration = example.configuration
    let (model, ema) = (weights(example.network), weights(example.network, seed: 12))
    try ModelDirectory.write(configuration, model: model, ema: ema, to: temporary("m"))
    let directory = try ModelDirectory(contentsOf: temporary("m"))
    #expect(directory.configuration == configuration)
    #expect(try directory.weights(.ema).flattened().array == ema.flattened().array)
    #expect(try directory.weights(.model).flattened().array == model.flattened().array)

    let file = try SafetensorsFile(contentsOf: temporary("m/model.safetensors"))
    for (name, shape) in example.tensors { #expect(file.shape(of: name) == shape, "\(name)") }
  }

  @Test("A written model of each part predicts as it did before", arguments: examples)
  func predictsTheSame(_ example: Example) throws {
    let temporary = try TemporaryDirectory()
    let configuration = example.configuration
    let weights = weights(example.network)
    let before = try DiT(
      configuration: configuration, weights: weights,
      context: ComputeContext(threads: 2, workers: 2))
    try ModelDirectory.write(configuration, model: weights, ema: nil, to: temporary("m"))
    let after = try DiT(contentsOf: temporary("m"))
    let x = normal([2, 3, 6, 10], seed: 1)
    let isTold = example.network.isToldGuidance
    let step = StepInputs(lengths: [0.25, 1], scales: [7.5, 1], ends: [0.8, 1])
    let outputs = try [before, after].map {
      try $0.predict(images: x, times: isTold ? [0.5, 1] : [3, 900], labels: [4, 0], step: isTold ? step : nil)
    }
    #expect(outputs[0] == outputs[1])
    #expect(outputs[0].elements.contains { $0 != 0 } && outputs[0].elements.allSatisfy(\.isFinite))
  }

  @Test("Tensors that a part brings or leaves out are missing or unexpected by name", arguments: examples)
  func mismatches(_ example: Example) throws {
    let temporary = try TemporaryDirectory()
    let path = temporary("m.safetensors")
    let table = ParameterTable(example.network)
    let brought = example.tensors.filter { $0.value != nil && $0.key != "pos_embed" }.keys.sorted()
    let leftOut = example.tensors.filter { $0.value == nil }.keys.sorted()
    let own = weights(example.network)
    var sources = zip(table.parameters, own.slices).filter { !brought.contains($0.0.name) }
      .map { TensorSource($0.name, $1, shape: $0.shape) }
    sources += leftOut.map { TensorSource($0, Tensor(zeros: [24])) }
    try SafetensorsWriter.write(sources, to: path)
    guard !brought.isEmpty || !leftOut.isEmpty else { return }
    let error = #expect(throws: DiTError.self) {
      try Weights(contentsOf: path, configuration: example.network)
    }
    #expect(error?.mismatch?.missing.sorted() == brought)
    #expect(error?.mismatch?.unexpected.sorted() == leftOut)
  }

  @Test("Beside rotary positions a fixed table is computed for another size and a learned one resampled")
  func anotherInputSize() throws {
    let temporary = try TemporaryDirectory()
    for position in [PositionEncoding.sincosRope, .learnedRope] {
      var network = smallNetwork
      network.position = position
      let path = temporary("\(position).safetensors")
      let stored = weights(network)
      try stored.write(to: path)
      var larger = network
      (larger.inputHeight, larger.inputWidth) = (12, 20)
      let expected = MutableFloatSlice(zeros: 60 * 24)
      if position == .sincosRope {
        sinCosPositions(output: expected.mutableSpan, rows: 6, columns: 10, width: 24)
      } else {
        let table = try #require(stored["pos_embed"])
        resamplePositions(output: expected.mutableSpan, table: table.span, from: (3, 5), to: (6, 10), width: 24)
      }
      #expect(try Weights(contentsOf: path, configuration: larger)["pos_embed"]?.array == expected.array)
    }
  }

  @Test("A table with rows for the condition's tokens too fits one grid alone")
  func conditionPositions() throws {
    let temporary = try TemporaryDirectory()
    let example = try #require(Self.examples.last)
    let path = temporary("m.safetensors")
    try weights(example.network).write(to: path)
    var larger = example.network
    larger.inputHeight = 12
    let error = #expect(throws: DiTError.self) { try Weights(contentsOf: path, configuration: larger) }
    #expect(error?.tensor == "pos_embed" && error?.found == "23 rows")
  }
}
