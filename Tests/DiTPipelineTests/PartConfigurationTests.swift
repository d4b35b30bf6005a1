import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor
import Testing

/// The keys of parts that are not the published DiT's. A new key belongs into `keys`, its contradictions into `refused`.
@Suite("Keys of config.json that choose the network's parts") struct PartConfigurationTests {
  private func read(_ text: String) throws -> ModelConfiguration {
    try ModelConfiguration(
      reading: JSONObjectReader(JSONValue(parsing: Array(text.utf8), file: "config.json"), file: "config.json"))
  }

  /// A key with its value, and what it changes of the published model.
  private static let keys: [(text: String, edit: @Sendable (inout DiTConfiguration) -> Void)] = [
    (#""norm": "rms""#, { $0.norm = .rms }),
    (#""mlp": "swiglu""#, { $0.mlp = .swiglu }),
    (#""mlp_hidden": 45"#, { $0.mlpHidden = 45 }),
    (#""qk_norm": true"#, { $0.qkNorm = true }),
    (#""patch_bottleneck": 7"#, { $0.patchBottleneck = 7 }),
    (#""in_context_tokens": 3"#, { $0.inContextTokens = 3 }),
    (#""in_context_tokens": 3, "in_context_start": 11"#, { ($0.inContextTokens, $0.inContextStart) = (3, 11) }),
    (#""position": "sincos+rope""#, { $0.position = .sincosRope }),
    (#""position": "learned+rope""#, { $0.position = .learnedRope }),
    (
      #""conditioning": "tokens", "token_groups": {"class": 2, "omega": 3, "t_min": 4, "t_max": 5, "time": 6}, "#
        + #""diffusion": {"path": "linear", "prediction": "x0"}"#,
      {
        ($0.conditioning, $0.tokenGroups) = (.tokens, TokenGroups(classes: 2, omega: 3, tMin: 4, tMax: 5, time: 6))
      }
    ),
    (
      #""conditioning": "tokens", "num_classes": 0, "token_groups": {"time": 1}"#,
      { ($0.conditioning, $0.numClasses, $0.tokenGroups) = (.tokens, 0, TokenGroups(time: 1)) }
    ),
    (
      #""conditioning": "adaln", "residual_gates": "vector""#,
      { ($0.conditioning, $0.residualGates) = (.adaLN, .vector) }
    ),
    (#""bias": false"#, { ($0.bias.qkv, $0.bias.proj, $0.bias.mlp) = (false, false, false) }),
    (#""bias": {"qkv": false}"#, { $0.bias.qkv = false }),
    (#""bias": {"proj": false}"#, { $0.bias.proj = false }),
    (#""bias": {"mlp": false, "qkv": true}"#, { $0.bias.mlp = false }),
    (
      #""patch_bottleneck": 7, "bias": {"patch_bottleneck": false}"#,
      { ($0.patchBottleneck, $0.bias.patchBottleneck) = (7, false) }
    ),
  ]

  @Test("Each key of a part is read alone, changes nothing else, and is written again")
  func eachKey() throws {
    for (text, edit) in Self.keys {
      var expected = DiTConfiguration()
      edit(&expected)
      #expect(expected != DiTConfiguration(), "\(text)")
      let configuration = try read("{\(text)}")
      #expect(configuration.network == expected, "\(text)")
      #expect(try read(configuration.json.text) == configuration, "round trip of \(text)")
    }
  }

  @Test("Left out, null or spelled as the default, every part is the published one")
  func defaults() throws {
    let spelled =
      #"{ "norm": "layer", "mlp": "gelu", "mlp_hidden": null, "qk_norm": false, "patch_bottleneck": null, "#
      + #""in_context_tokens": 0, "in_context_start": 0, "token_groups": null, "residual_gates": "adaln", "bias": true }"#
    #expect(try read(spelled) == read("{}"))
    #expect(try read(#"{"bias": {}}"#) == read("{}"))
    // A model of published parts is written as it was before there were others.
    let names = [
      "norm", "mlp", "mlp_hidden", "qk_norm", "patch_bottleneck", "in_context_tokens", "token_groups", "bias",
    ]
    guard case .object(let members) = try read("{}").json else {
      Issue.record("not an object")
      return
    }
    #expect(members.filter { names.contains($0.key) }.isEmpty)
  }

  @Test("The configuration of a whole network of such parts is read and written")
  func whole() throws {
    let jit = try read(
      #"""
      { "input_size": 256, "patch_size": 16, "in_channels": 3, "hidden_size": 1024, "depth": 24, "num_heads": 16,
        "learn_sigma": false, "position": "sincos+rope", "norm": "rms", "mlp": "swiglu", "qk_norm": true,
        "patch_bottleneck": 128, "in_context_tokens": 32, "in_context_start": 8, "bias": {"patch_bottleneck": false} }
      """#)
    #expect(try read(jit.json.text) == jit)
    #expect(jit.network.mlpSize == 2730, "two thirds of 4096")
    #expect(jit.network.totalTokens == 288 && jit.network.tokens(ofBlock: 7) == 256)
    let pmf = try read(
      #"""
      { "input_size": 256, "patch_size": 16, "in_channels": 3, "hidden_size": 1280, "depth": 48, "num_heads": 16,
        "learn_sigma": false, "position": "learned+rope", "norm": "rms", "mlp": "swiglu", "mlp_hidden": 3416,
        "qk_norm": true, "patch_bottleneck": 256, "conditioning": "tokens", "residual_gates": "vector",
        "token_groups": {"class": 8, "omega": 4, "t_min": 2, "t_max": 2, "time": 4}, "bias": false,
        "diffusion": {"path": "linear", "prediction": "x0", "network_time": "s"},
        "sampling": {"sampler": "meanflow", "steps": 1, "guidance": 7.5, "guidance_interval": [0.1, 0.8]} }
      """#)
    #expect(try read(pmf.json.text) == pmf)
    let n = pmf.network
    #expect(n.mlpSize == 3416 && n.totalTokens == 276 && n.positionTokens == 276 && n.timeInputs == 4)
    #expect(!n.bias.qkv && !n.bias.proj && !n.bias.mlp && n.bias.patchBottleneck)
  }

  /// A network that is told guidance, with this in its `sampling` block.
  static func told(_ sampling: String, groups: String = #""omega": 1, "t_min": 1, "t_max": 1"#) -> String {
    #"{"conditioning": "tokens", "token_groups": {"class": 1, "time": 1, \#(groups)}, "#
      + #""diffusion": {"path": "linear", "prediction": "x0", "network_time": "s"}, "sampling": {\#(sampling)}}"#
  }

  /// A file and the one line it must give.
  static let refused: [(String, String)] = [
    (
      #"{"conditioning": "tokens", "token_groups": {"class": 8, "omega": 1, "time": 1}}"#,
      "diffusion.path: expected linear, as token_groups tell the network a step's length, found beta"
    ),
    (
      told(#""sampler": "heun""#),
      "sampling.sampler: expected meanflow, as token_groups tell the network guidance and a step's length, found heun"
    ),
    (
      #"{"diffusion": {"path": "linear", "prediction": "x0"}, "sampling": {"sampler": "meanflow"}}"#,
      "sampling.sampler: expected another one, as token_groups tell the network no guidance and no step's length, "
        + "found meanflow"
    ),
    (told(#""guidance": 0.5"#), "sampling.guidance: expected a finite ω of at least 1, as the network is told it"),
    (
      told(#""guidance_interval": [0, 1.5]"#),
      "sampling.guidance_interval: expected times in 0…1, as the network is told"
    ),
    (told(#""guidance_channels": 2"#), "sampling.guidance_channels: expected none, as the network is told guidance"),
    (
      told(#""guidance": 2"#, groups: #""t_min": 1"#),
      "sampling.guidance: expected 1, as token_groups has none for omega"
    ),
    (
      told(#""guidance_interval": [0, 1]"#, groups: #""omega": 1"#),
      "sampling.guidance_interval: expected none, as token_groups has none for t_min and t_max, found 0,1"
    ),
    (#"{"norm": "group"}"#, #"norm: expected one of "layer", "rms", found "group""#),
    (#"{"norm": null}"#, #"norm: expected "#),
    (#"{"mlp": "relu"}"#, #"mlp: expected one of "gelu", "swiglu""#),
    (#"{"mlp_hidden": 0}"#, "mlp_hidden: expected 1 to 1048576, found 0"),
    (#"{"mlp_hidden": 1048577}"#, "mlp_hidden: expected 1 to 1048576, found 1048577"),
    (#"{"mlp_hidden": 4.5}"#, "mlp_hidden: expected a whole number, found 4.5"),
    (#"{"qk_norm": 1}"#, "qk_norm: expected true or false, found 1"),
    (#"{"qk_norm": "rms"}"#, #"qk_norm: expected true or false, found "rms""#),
    (#"{"patch_bottleneck": 0}"#, "patch_bottleneck: expected 1 to 1048576, found 0"),
    (#"{"patch_bottleneck": true}"#, "patch_bottleneck: expected a whole number, found true"),
    (#"{"in_context_tokens": -1}"#, "in_context_tokens: expected 0 to 65536, found -1"),
    (#"{"in_context_tokens": 65537}"#, "in_context_tokens: expected 0 to 65536, found 65537"),
    (
      #"{"in_context_tokens": 2, "conditioning": "additive"}"#,
      "in_context_tokens: needs conditioning adaln_zero or adaln, not additive"
    ),
    (
      #"{"in_context_tokens": 2, "num_classes": 0}"#,
      "in_context_tokens: needs classes, as the tokens are the class's"
    ),
    (#"{"in_context_tokens": 2, "embedders": "per_block"}"#, "in_context_tokens: needs embedders shared"),
    (#"{"in_context_start": 1}"#, "in_context_start: expected 0, found 1"),
    (#"{"in_context_tokens": 2, "in_context_start": 12}"#, "in_context_start: expected 0 to 11, found 12"),
    (#"{"in_context_tokens": 2, "in_context_start": -1}"#, "in_context_start: expected 0 to 11, found -1"),
    (
      #"{"in_context_tokens": 2, "in_context_start": 1, "text": {"length": 4}}"#,
      "in_context_start: expected 0 beside text or context_image"
    ),
    (#"{"token_groups": {"time": 1}}"#, "token_groups: needs conditioning tokens, not adaln_zero"),
    (#"{"conditioning": "tokens"}"#, "token_groups: conditioning tokens needs them"),
    (#"{"conditioning": "tokens", "token_groups": 8}"#, "token_groups: expected an object, found 8"),
    (
      #"{"conditioning": "tokens", "token_groups": {"classes": 8}}"#,
      "token_groups.classes: expected one of the keys class, omega, t_min, t_max, time, found an unknown key"
    ),
    (
      #"{"conditioning": "tokens", "token_groups": {"class": 8, "time": 0}}"#,
      "token_groups.time: expected at least 1, found 0"
    ),
    (
      #"{"conditioning": "tokens", "token_groups": {"class": 8, "time": 1, "t_max": -2}}"#,
      "token_groups.t_max: expected 0 to 65536, found -2"
    ),
    (
      #"{"conditioning": "tokens", "token_groups": {"time": 1}}"#,
      "token_groups.class: expected at least 1, as there are classes, found 0"
    ),
    (
      #"{"conditioning": "tokens", "num_classes": 0, "token_groups": {"class": 2, "time": 1}}"#,
      "token_groups.class: expected 0, as there are no classes, found 2"
    ),
    (
      #"{"conditioning": "tokens", "token_groups": {"class": 2, "time": 1}, "attention": {"mask": "soft"}}"#,
      "attention.mask: expected none with conditioning tokens"
    ),
    (
      #"{"conditioning": "tokens", "token_groups": {"class": 2, "time": 1}, "in_context_tokens": 1}"#,
      "in_context_tokens: needs conditioning adaln_zero or adaln, not tokens"
    ),
    (
      #"{"conditioning": "tokens", "token_groups": {"class": 2, "time": 1}, "embedders": "per_block"}"#,
      "embedders: per_block needs conditioning adaln_zero or adaln, not tokens"
    ),
    (#"{"residual_gates": "scalar"}"#, #"residual_gates: expected one of "adaln", "vector", found "scalar""#),
    (
      #"{"residual_gates": "vector"}"#,
      "residual_gates: vector needs another conditioning than adaln_zero, whose gates come from the condition"
    ),
    (#"{"bias": 0}"#, "bias: expected "),
    (#"{"bias": {"fc1": false}}"#, "bias.fc1: expected one of the keys qkv, proj, mlp, patch_bottleneck, found an"),
    (#"{"bias": {"qkv": "none"}}"#, #"bias.qkv: expected true or false, found "none""#),
    (#"{"bias": {"patch_bottleneck": false}}"#, "bias.patch_bottleneck: false needs a patch_bottleneck"),
    (
      #"{"position": "sincos+rope", "num_heads": 64}"#,
      "position: sincos+rope needs a head size that is a multiple of 4, not 6"
    ),
    (
      #"{"position": "learned+rope", "num_heads": 64}"#,
      "position: learned+rope needs a head size that is a multiple of 4, not 6"
    ),
  ]

  @Test("Each contradiction of parts is refused in one line with its key", arguments: refused)
  func contradictions(text: String, message: String) {
    let error = #expect(throws: DiTError.self) { try read(text) }
    let line = error?.description ?? ""
    #expect(line.hasPrefix("config.json: \(message)"), "\(line)")
    #expect(!line.contains("\n"))
  }
}
