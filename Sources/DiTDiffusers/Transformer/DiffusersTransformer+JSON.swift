import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

// transformer/config.json of a diffusers DiT ↔ our sizes. Keys that are left out have the defaults of diffusers'
// DiTTransformer2DModel, also under the class's old name Transformer2DModel, as diffusers reads it.

/// What a transformer's config.json says.
package struct DiffusersTransformer {
  package let network: DiTConfiguration
  /// Whether q, k and v have biases.
  package let hasAttentionBias: Bool
  /// Whether it has the keys that EMAModel.save_pretrained writes: the weights are a moving average, or began as one.
  package let isAverage: Bool
  /// What was passed over, one line each.
  package let notes: [String]

  /// What diffusers computes from a transformer's config.json: square input, frequencies over 127, ε = 1e-6 in the first
  /// LayerNorm of a block and the final one, `norm_eps` in the second.
  ///
  /// `dropout` acts in training alone, `upcast_attention` and `norm_num_groups` change nothing in this network; unknown
  /// keys are passed over, as diffusers does.
  /// - Throws: `DiTError` naming the key, for a value of another type, and one for which the network would
  ///   be another.
  package init(reading reader: JSONObjectReader) throws(DiTError) {
    var (reader, network) = (reader, DiTConfiguration())
    let (file, name) = (reader.file, try reader.string("_class_name"))
    let classes = DiTConfiguration.diffusersClasses
    guard let name, classes.contains(name) else {
      throw reader.failure("_class_name", expected: classes.joined(separator: " or "), found: name ?? "nothing")
    }
    isAverage = ["decay", "optimization_step"].allSatisfy(reader.names.contains)
    _ = reader.value("norm_num_groups")
    for key in ["out_channels", "norm_eps"] { reader.remove(key, if: .null) }
    _ = try reader.bool("upcast_attention")
    try reader.checkConstants(old: name != classes[0])
    let dropout = try reader.number("dropout", in: 0...1) ?? 0

    let sizes = 1...1 << 20
    network.numHeads = try reader.integer("num_attention_heads", in: sizes) ?? 16
    network.hiddenSize = network.numHeads * (try reader.integer("attention_head_dim", in: sizes) ?? 72)
    let channels = try reader.integer("in_channels", in: sizes) ?? 4
    network.inChannels = channels
    network.depth = try reader.integer("num_layers", in: 1...1024) ?? 28
    network.inputHeight = try reader.integer("sample_size", in: sizes) ?? 32
    network.inputWidth = network.inputHeight
    network.patchSize = try reader.integer("patch_size", in: sizes) ?? 2
    network.numClasses = try reader.integer("num_embeds_ada_norm", in: 1...1 << 24) ?? 1000
    network.norm2Epsilon = try reader.number("norm_eps") ?? 1e-5
    hasAttentionBias = try reader.bool("attention_bias") ?? true
    let outputs = try reader.integer("out_channels") ?? channels
    guard outputs == channels || outputs == 2 * channels else {
      throw reader.failure(
        "out_channels", expected: "null, \(channels) or \(2 * channels), as in_channels is \(channels)",
        found: "\(outputs)")
    }
    network.learnSigma = outputs != channels
    network.timeFrequencies = .diffusers
    let ignored = try reader.passOver(forClass: classes[0])
    let unused =
      dropout > 0 ? "\(file): dropout \(dropout) acts in training alone, and `dit train` trains without it" : nil
    notes = [unused, ignored].compactMap(\.self)
    do throws(DiTError) {
      try network.validate()
    } catch {
      let keys = [
        "hidden_size": "attention_head_dim", "input_size": "sample_size", "depth": "num_layers",
        "num_heads": "num_attention_heads", "norm2_eps": "norm_eps", "num_classes": "num_embeds_ada_norm",
      ]
      throw error.about(file: file, .key(keys[error.name] ?? error.name))
    }
    self.network = network
  }
}

extension DiTConfiguration {
  /// The class that diffusers writes, and its old name.
  static let diffusersClasses = ["DiTTransformer2DModel", "Transformer2DModel"]
  private static let activation = "gelu-approximate"
  private static let normType = "ada_norm_zero"

  /// The config.json that says the same; only of a network for which ``diffusersProblem`` is nil.
  var diffusersJSON: JSONValue {
    .object([
      JSONMember("_class_name", .string(Self.diffusersClasses[0])),
      JSONMember("_diffusers_version", .string(DiffusersDirectory.version)),
      JSONMember("activation_fn", .string(Self.activation)), JSONMember("attention_bias", .bool(true)),
      JSONMember("attention_head_dim", .integer(headSize)), JSONMember("dropout", .number(0)),
      JSONMember("in_channels", .integer(inChannels)), JSONMember("norm_elementwise_affine", .bool(false)),
      JSONMember("norm_eps", .number(norm2Epsilon)), JSONMember("norm_num_groups", .integer(32)),
      JSONMember("norm_type", .string(Self.normType)), JSONMember("num_attention_heads", .integer(numHeads)),
      JSONMember("num_embeds_ada_norm", .integer(numClasses)), JSONMember("num_layers", .integer(depth)),
      JSONMember("out_channels", .integer(outChannels)), JSONMember("patch_size", .integer(patchSize)),
      JSONMember("sample_size", .integer(inputHeight)), JSONMember("upcast_attention", .bool(false)),
    ])
  }

  /// The first thing for which diffusers' DiT has neither a key nor a tensor: our key, what it could express, and what
  /// the network has.
  package var diffusersProblem: (key: String, expected: String, found: String)? {
    let checks: [(Bool, String, String, String)] = [
      (conditioning == .adaLNZero, "conditioning", "adaln_zero", conditioning.rawValue),
      (position == .sincos, "position", "sincos", position.rawValue),
      (attention == AttentionConfiguration(), "attention", "the standard attention", "another"),
      (sequence == nil, "text or context_image", "no conditioning sequence", "one"),
      (inputHeight == inputWidth, "input_size", "a square", "\(inputHeight)×\(inputWidth)"),
      (mlpSize == 4 * hiddenSize, "mlp_ratio", "4", "\(mlpRatio)"),
      (numClasses > 0, "num_classes", "at least one class", "0"),
      (hasNullClass, "class_dropout_prob", "more than 0, as there is always a null class", "\(classDropoutProb)"),
      (norm == .layer, "norm", "layer", norm.rawValue), (mlp == .gelu, "mlp", "gelu", mlp.rawValue),
      (!qkNorm, "qk_norm", "false", "true"), (patchBottleneck == nil, "patch_bottleneck", "null", "a width"),
      (inContextTokens == 0, "in_context_tokens", "0", "\(inContextTokens)"),
      (bias == Biases(), "bias", "true", "layers without one"),
      (timeFrequencies != .literal, "time_frequencies", "diffusers (or dit, which is nearly that)", "literal"),
    ]
    return checks.first { !$0.0 }.map { (key: $0.1, expected: $0.2, found: $0.3) }
  }
}

extension JSONObjectReader {
  /// Takes the keys of which only one value makes the network this one.
  fileprivate mutating func checkConstants(old: Bool) throws(DiTError) {
    var constants: [(key: String, values: [JSONValue])] = [
      ("activation_fn", [.string("gelu-approximate")]), ("norm_elementwise_affine", [.bool(false)]),
      ("norm_type", [.string("ada_norm_zero")]),
    ]
    if old {
      constants += [
        ("cross_attention_dim", [.null]), ("num_vector_embeds", [.null]), ("caption_channels", [.null]),
        ("interpolation_scale", [.null]), ("only_cross_attention", [.bool(false)]),
        ("double_self_attention", [.bool(false)]), ("use_linear_projection", [.bool(false)]),
        ("use_additional_conditions", [.null, .bool(false)]), ("attention_type", [.string("default")]),
      ]
    }
    for (key, values) in constants {
      guard let value = value(key) else {
        // The old class has another default.
        guard old, key == "norm_type" else { continue }
        throw failure(key, expected: values[0].summary, found: "nothing")
      }
      guard values.contains(value) else { throw failure(key, expected: values[0].summary, found: value.summary) }
    }
  }
}
