import DiTDiffusion
import DiTFiles
import DiTModel

// transformer/config.json of a diffusers DiT ↔ our sizes. Keys that are left out have the defaults of diffusers'
// DiTTransformer2DModel, also under the class's old name Transformer2DModel, as diffusers reads it.

extension DiTConfiguration {
  /// The class that diffusers writes, and its old name.
  static let diffusersClasses = ["DiTTransformer2DModel", "Transformer2DModel"]
  private static let activation = "gelu-approximate"
  private static let norm = "ada_norm_zero"

  /// What diffusers computes from a transformer's config.json: square input, frequencies over 127, ε = 1e-6 in the first
  /// LayerNorm of a block and the final one, `norm_eps` in the second. Finishes the reader.
  ///
  /// Dropout is a matter of training and must be 0 here; `attention_bias` is returned because it says which tensors there
  /// are; `upcast_attention` and `norm_num_groups` change nothing in this network.
  /// - Throws: ``ConfigurationFileError`` naming the key, for an unknown key, a value of another type, and one for which
  ///   the network would be another.
  package init(diffusers reader: JSONObjectReader, attentionBias: inout Bool) throws(ConfigurationFileError) {
    var reader = reader
    let (file, name) = (reader.file, try reader.string("_class_name"))
    guard let name, Self.diffusersClasses.contains(name) else {
      throw reader.failure(
        "_class_name", expected: Self.diffusersClasses.joined(separator: " or "), found: name ?? "nothing")
    }
    for key in ["_diffusers_version", "_name_or_path", "norm_num_groups"] { _ = reader.value(key) }
    for key in ["out_channels", "norm_eps"] { reader.remove(key, if: .null) }
    _ = try reader.bool("upcast_attention")
    try reader.checkConstants(old: name != Self.diffusersClasses[0])

    self.init()
    let sizes = 1...1 << 20
    numHeads = try reader.integer("num_attention_heads", in: sizes) ?? 16
    hiddenSize = numHeads * (try reader.integer("attention_head_dim", in: sizes) ?? 72)
    inChannels = try reader.integer("in_channels", in: sizes) ?? 4
    depth = try reader.integer("num_layers", in: 1...1024) ?? 28
    inputHeight = try reader.integer("sample_size", in: sizes) ?? 32
    inputWidth = inputHeight
    patchSize = try reader.integer("patch_size", in: sizes) ?? 2
    numClasses = try reader.integer("num_embeds_ada_norm", in: 1...1 << 24) ?? 1000
    norm2Epsilon = try reader.number("norm_eps") ?? 1e-5
    attentionBias = try reader.bool("attention_bias") ?? true
    let outputs = try reader.integer("out_channels") ?? inChannels
    guard outputs == inChannels || outputs == 2 * inChannels else {
      throw reader.failure(
        "out_channels", expected: "null, \(inChannels) or \(2 * inChannels), as in_channels is \(inChannels)",
        found: "\(outputs)")
    }
    learnSigma = outputs != inChannels
    timeFrequencies = .diffusers
    try reader.finish()
    do throws(ConfigurationError) {
      try validate()
    } catch {
      let keys = [
        "hidden_size": "attention_head_dim", "input_size": "sample_size", "depth": "num_layers",
        "num_heads": "num_attention_heads", "norm2_eps": "norm_eps", "num_classes": "num_embeds_ada_norm",
      ]
      throw ConfigurationFileError(file: file, key: keys[error.key] ?? error.key, problem: error.problem)
    }
  }

  /// The config.json that says the same; only of a network for which ``diffusersProblem`` is nil.
  var diffusersJSON: JSONValue {
    .object([
      JSONMember("_class_name", .string(Self.diffusersClasses[0])),
      JSONMember("_diffusers_version", .string(DiffusersDirectory.version)),
      JSONMember("activation_fn", .string(Self.activation)), JSONMember("attention_bias", .bool(true)),
      JSONMember("attention_head_dim", .integer(headSize)), JSONMember("dropout", .number(0)),
      JSONMember("in_channels", .integer(inChannels)), JSONMember("norm_elementwise_affine", .bool(false)),
      JSONMember("norm_eps", .number(norm2Epsilon)), JSONMember("norm_num_groups", .integer(32)),
      JSONMember("norm_type", .string(Self.norm)), JSONMember("num_attention_heads", .integer(numHeads)),
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
      (timeFrequencies != .literal, "time_frequencies", "diffusers (or dit, which is nearly that)", "literal"),
    ]
    return checks.first { !$0.0 }.map { (key: $0.1, expected: $0.2, found: $0.3) }
  }
}

extension JSONObjectReader {
  /// Takes the keys of which only one value makes the network this one.
  fileprivate mutating func checkConstants(old: Bool) throws(ConfigurationFileError) {
    var constants: [(key: String, values: [JSONValue])] = [
      ("activation_fn", [.string("gelu-approximate")]), ("dropout", [.integer(0), .number(0)]),
      ("norm_elementwise_affine", [.bool(false)]), ("norm_type", [.string("ada_norm_zero")]),
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
