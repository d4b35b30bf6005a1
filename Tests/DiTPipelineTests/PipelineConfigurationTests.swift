import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Testing

@Suite("Reading and writing config.json") struct ConfigurationTests {
  func read(_ text: String) throws -> ModelConfiguration {
    try ModelConfiguration(
      reading: JSONObjectReader(JSONValue(parsing: Array(text.utf8), file: "config.json"), file: "config.json"))
  }

  @Test("An empty object is the published model with its defaults")
  func emptyObjectIsThePublishedModel() throws {
    let configuration = try read("{}")
    #expect(configuration == ModelConfiguration(published: "DiT-S/2"))
    #expect(configuration.diffusion == DiffusionConfiguration())
    #expect(configuration.sampling.sampler == Sampler(.ddim, steps: 50, schedule: .linspace))
    #expect(configuration.sampling.guidance == Guidance(scale: 4))
    #expect(configuration.classNames == nil)
  }

  @Test("Every key is read, and what is written reads back equal")
  func everyKeyIsRead() throws {
    let configuration = try read(
      #"""
      { "model_type": "dit", "input_size": [8, 12], "patch_size": 4, "in_channels": 3, "hidden_size": 40, "depth": 3,
        "num_heads": 5, "mlp_ratio": 2.5, "num_classes": 2, "class_dropout_prob": 0.25, "learn_sigma": false,
        "position": "sincos", "time_frequencies": "dit", "conditioning": "adaln_zero",
        "attention": {"temperature": "standard", "mask": "none", "window": "full", "distance": "raster"},
        "diffusion": {"steps": 500, "schedule": "scaled_linear", "beta_start": 0.0002, "beta_end": 0.01,
                      "prediction": "epsilon", "variance": "fixed_small"},
        "sampling": {"sampler": "ddim", "steps": 3, "schedule": "custom:1,5,400", "eta": 0.5, "guidance": 1.5,
                     "guidance_interval": [10, 300], "guidance_channels": 2},
        "class_names": ["zéro", "one"] }
      """#)
    let network = DiTConfiguration(
      inputHeight: 8, inputWidth: 12, patchSize: 4, inChannels: 3, hiddenSize: 40, depth: 3, numHeads: 5, mlpRatio: 2.5,
      numClasses: 2, classDropoutProb: 0.25, learnSigma: false)
    let expected = ModelConfiguration(
      network: network,
      diffusion: DiffusionConfiguration(
        steps: 500, schedule: .scaledLinear, betaStart: 0.0002, betaEnd: 0.01, variance: .fixedSmall),
      sampling: SamplingConfiguration(
        sampler: Sampler(.ddim, steps: 3, schedule: .custom([1, 5, 400]), eta: 0.5),
        guidance: Guidance(scale: 1.5, interval: 10...300, channels: 2)),
      classNames: ["zéro", "one"])
    #expect(configuration == expected)
    #expect(configuration.className(0) == "zéro" && configuration.className(2) == nil)
    #expect(try read(configuration.json.text) == configuration, "round trip")
  }

  /// Each option is read, makes another network, and is written again.
  @Test("Every option of the network is read and written")
  func optionsOfTheNetwork() throws {
    func network(_ text: String) throws -> DiTConfiguration {
      let configuration = try read(text)
      #expect(try read(configuration.json.text) == configuration, "round trip of \(text)")
      return configuration.network
    }
    #expect(try network(#"{"position": "learned"}"#).position == .learned)
    #expect(try network(#"{"position": "rope"}"#).position == .rope)
    #expect(try network(#"{"time_frequencies": "literal"}"#).timeFrequencies == .literal)
    let attention =
      #"{"attention": {"temperature": "sqrt_beta", "mask": "hard", "window": "noise", "distance": "grid"}}"#
    #expect(
      try network(attention).attention
        == AttentionConfiguration(temperature: .sqrtBeta, mask: .hard, window: .noise, distance: .grid))
    for conditioning in Conditioning.allCases {
      let groups = conditioning == .tokens ? #", "token_groups": {"class": 1, "time": 1}"# : ""
      #expect(try network(#"{"conditioning": "\#(conditioning.rawValue)"\#(groups)}"#).conditioning == conditioning)
    }
    let text = try network(#"{"num_classes": 0, "text": {"length": 24}}"#)
    #expect(text.sequence == .text(length: 24) && text.hasUnconditional && text.prefixTokens == 24)
    let image = try network(#"{"context_image": {"input_size": [16, 32]}, "conditioning": "in_context"}"#)
    #expect(image.sequence == .image(height: 16, width: 32) && image.prefixTokens == 2 + 8 * 16)
    #expect(try read(#"{"num_classes": 0, "text": {"length": 24}}"#).sampling.guidance.scale == 4)
  }

  @Test("Every prediction is read with its default sampler")
  func everyPredictionIsReadWithItsSampler() throws {
    for prediction in Prediction.allCases {
      let word = prediction.rawValue
      let path = prediction == .velocity ? #""path": "linear", "# : ""
      let configuration = try read(#"{"learn_sigma": false, "diffusion": {\#(path)"prediction": "\#(word)"}}"#)
      #expect(configuration.diffusion.prediction == prediction)
      #expect(
        configuration.sampling.sampler
          == Sampler(prediction.target == .velocity ? .heun : .ddim, steps: 50, schedule: .linspace))
      #expect(try read(configuration.json.text) == configuration, "round trip of \(word)")
    }
    for (word, schedule) in [
      ("quadratic", StepSchedule.quadratic), ("jump", .jump(exponent: 0.5)), ("jump:2", .jump(exponent: 2)),
    ] {
      let configuration = try read(#"{"sampling": {"sampler": "unipc", "steps": 9, "schedule": "\#(word)"}}"#)
      #expect(configuration.sampling.sampler == Sampler(.unipc, steps: 9, schedule: schedule))
      #expect(try read(configuration.json.text) == configuration, "round trip of \(word)")
    }
  }

  @Test("Every process is read, written in its fixed keys, and read back equal")
  func everyProcessComesBack() throws {
    let jit = try read(
      #"""
      {"diffusion": {"path": "linear", "prediction": "x0", "network_time": "1-s", "loss_target": "velocity",
                     "time_distribution": {"logit_normal": [-0.8, 0.8]}, "noise_scale": 2, "t_floor": 0.1},
       "sampling": {"guidance": 3, "guidance_interval": [0.1, 1]}}
      """#)
    #expect(
      jit.diffusion
        == DiffusionConfiguration(
          path: .linear, prediction: .x0, networkTime: .oneMinusS, lossTarget: .velocity,
          timeDistribution: .logitNormal(mean: -0.8, deviation: 0.8), noiseScale: 2, timeFloor: 0.1))
    #expect(jit.sampling.guidance == Guidance(scale: 3, interval: 0.1...1) && jit.sampling.sampler.name == .heun)
    for time in LinearTime.allCases {
      for prediction in [Prediction.x0, .velocity] {
        var configuration = jit
        configuration.diffusion = DiffusionConfiguration(path: .linear, prediction: prediction, networkTime: time)
        #expect(try read(configuration.json.text) == configuration, "\(prediction), \(time)")
      }
    }
    let text = jit.json.text.filter { !$0.isWhitespace }
    #expect(
      text.contains(
        #""diffusion":{"path":"linear","steps":1000,"schedule":"linear","beta_start":0.0001,"beta_end":0.02,"#
          + #""prediction":"x0","variance":"learned_range","network_time":"1-s","loss_target":"velocity","#
          + #""time_distribution":{"logit_normal":[-0.8,0.8]},"noise_scale":2,"t_floor":0.1}"#), "\(text)")
    #expect(text.contains(#""guidance_interval":[0.1,1]"#))
    #expect(try read(#"{"diffusion": {"loss_target": null}}"#) == read("{}"))
    #expect(try read(#"{"diffusion": {"path": "beta"}}"#) == read("{}"))
  }

  /// The bytes that such files had before paths had names.
  @Test("flow and β paths are written as they always were, and flow means linear, velocity, 1000s")
  func earlierSpellingsKeepTheirBytes() throws {
    for (prediction, variance) in [("flow", "fixed_large"), ("v", "fixed_large"), ("epsilon", "fixed_small")] {
      let section =
        #""diffusion":{"steps":1000,"schedule":"linear","beta_start":0.0001,"beta_end":0.02,"prediction":"\#(prediction)","#
        + #""variance":"\#(variance)"}"#
      let configuration = try read("{\"learn_sigma\": false, \(section)}")
      #expect(configuration.json.text.filter { !$0.isWhitespace }.contains(section), "\(prediction)")
    }
    let flow = try NoiseSchedule(read(#"{"diffusion": {"prediction": "flow"}}"#).diffusion).process
    let velocity = try NoiseSchedule(
      read(#"{"diffusion": {"path": "linear", "prediction": "velocity", "network_time": "1000s"}}"#).diffusion
    ).process
    #expect(flow.path == velocity.path && flow.target == velocity.target && flow.linearTime == velocity.linearTime)
    #expect(flow.lossTarget == velocity.lossTarget && flow.noiseScale == velocity.noiseScale)
  }

  @Test("The fixtures' configurations are written and read back equal", arguments: networkCases)
  func fixturesComeBackEqual(name: String) throws {
    let configuration = try ModelConfiguration(contentsOf: networkFixture("\(name)/config.json"))
    let directory = try TemporaryDirectory()
    try configuration.write(to: directory("config.json"))
    #expect(try ModelConfiguration(contentsOf: directory("config.json")) == configuration)
    try configuration.write(to: directory("again.json"))
    #expect(try JSONValue(contentsOf: directory("again.json")) == JSONValue(contentsOf: directory("config.json")))
  }

  @Test("Defaults follow the keys they depend on")
  func defaultsFollowOtherKeys() throws {
    #expect(try read(#"{"learn_sigma": false}"#).diffusion.variance == .fixedLarge)
    #expect(try read(#"{"learn_sigma": false, "diffusion": {"steps": 100}}"#).diffusion.variance == .fixedLarge)
    #expect(try read(#"{"diffusion": {"schedule": "cosine", "steps": 20}}"#).sampling.sampler.steps == 20)
    #expect(try read(#"{"class_dropout_prob": 0}"#).sampling.guidance.scale == 1)
    #expect(try read(#"{"num_classes": 0}"#).sampling.guidance.scale == 1)
    #expect(try read(#"{"sampling": {"schedule": "custom:3,4"}}"#).sampling.sampler.steps == 2)
    let square = try read(#"{"input_size": 64}"#).network
    #expect(square.inputHeight == 64 && square.inputWidth == 64)
  }

  /// A file and the one line it must give.
  static let refused: [(String, String)] = [
    (#"{"hiden_size": 3}"#, "hiden_size: expected one of the keys model_type, family, input_size, patch_size, "),
    (#"{"attention": {"kind": 1}}"#, "attention.kind: expected one of the keys temperature, mask, window, distance,"),
    (#"{"diffusion": {"step": 1}}"#, "diffusion.step: expected one of the keys steps, "),
    (#"{"sampling": {"sampler_name": 1}}"#, "sampling.sampler_name: expected one of the keys sampler, "),
    (#"{"depth": 1, "depth": 1}"#, "depth: expected each key once, found it twice"),
    (#"[]"#, "expected an object, found an array of 0"),
    (#"{"model_type": "unet"}"#, "model_type: expected \"dit\", found \"unet\""),
    (
      #"{"position": "alibi"}"#,
      #"position: expected one of "sincos", "learned", "rope", "sincos+rope", "learned+rope", found "alibi""#
    ),
    (
      #"{"position": "rope", "num_heads": 64}"#,
      "position: rope needs a head size that is a multiple of 4, not 6"
    ),
    (
      #"{"time_frequencies": "log"}"#,
      "time_frequencies: expected one of \"dit\", \"diffusers\", \"literal\", found \"log\""
    ),
    (
      #"{"conditioning": "cross"}"#,
      #"conditioning: expected one of "adaln_zero", "adaln", "additive", "in_context", "tokens", found "cross""#
    ),
    (#"{"text": {}}"#, "text.length: expected the most bytes that a text may have, found nothing"),
    (#"{"text": {"length": 0}}"#, "text.length: expected 1 to 65536, found 0"),
    (
      #"{"text": {"length": 4, "vocabulary": 3}}"#, "text.vocabulary: expected one of the keys length, found an unknown"
    ),
    (#"{"text": 4}"#, "text: expected an object, found 4"),
    (#"{"context_image": {}}"#, "context_image.input_size: expected a number or [H, W], found nothing"),
    (
      #"{"context_image": {"input_size": [4, 3]}}"#,
      "context_image.input_size: expected positive multiples of patch_size 2, found 4×3"
    ),
    (
      #"{"context_image": {"input_size": 4}, "text": {"length": 4}}"#,
      "context_image: expected no context_image beside text, as one sequence conditions a model, found both"
    ),
    (
      #"{"text": {"length": 4}, "class_dropout_prob": 0, "sampling": {"guidance": 2}}"#,
      "sampling.guidance: expected 1, as the model has no unconditional prediction, found 2.0"
    ),
    (
      #"{"attention": {"mask": "both"}}"#, #"attention.mask: expected one of "none", "soft", "hard", found "both""#
    ),
    (
      #"{"attention": {"window": "wide"}}"#,
      #"attention.window: expected one of "signal", "noise", "full", found "wide""#
    ),
    (
      #"{"attention": {"temperature": "beta"}}"#,
      #"attention.temperature: expected one of "standard", "sqrt_beta", "inverse_sqrt_beta", found "beta""#
    ),
    (
      #"{"attention": {"distance": "circle"}}"#,
      #"attention.distance: expected one of "raster", "grid", found "circle""#
    ),
    (#"{"attention": {"window": "signal"}}"#, "attention.window: expected full, as there is no mask, found signal"),
    (#"{"attention": {"distance": "grid"}}"#, "attention.distance: expected raster, as there is no mask, found grid"),
    (#"{"attention": true}"#, "attention: expected an object, found true"),
    (
      #"{"diffusion": {"prediction": "eps"}}"#,
      "diffusion.prediction: expected one of \"epsilon\", \"mean\", \"x0\", \"v\", \"velocity\", \"flow\", found \"eps\""
    ),
    (
      #"{"diffusion": {"prediction": "velocity"}}"#,
      "diffusion.prediction: expected one of epsilon, mean, x0, v, as path is beta, found velocity"
    ),
    (
      #"{"diffusion": {"path": "beta", "prediction": "flow"}}"#,
      "diffusion.path: expected linear, which prediction flow means, found beta"
    ),
    (
      #"{"diffusion": {"prediction": "flow", "network_time": "s"}}"#,
      "diffusion.network_time: expected 1000s, which prediction flow means"
    ),
    (#"{"diffusion": {"path": "gvp"}}"#, "diffusion.path: expected one of \"beta\", \"linear\", found \"gvp\""),
    (
      #"{"diffusion": {"path": "linear"}}"#,
      "diffusion.prediction: expected one of x0, velocity, as path is linear, found epsilon"
    ),
    (
      #"{"diffusion": {"path": "linear", "prediction": "x0", "loss_target": "epsilon"}}"#,
      "diffusion.loss_target: expected null, x0 or velocity, found epsilon"
    ),
    (
      #"{"diffusion": {"prediction": "x0", "loss_target": "velocity"}}"#,
      "diffusion.loss_target: expected null or x0, as prediction says, found velocity"
    ),
    (
      #"{"diffusion": {"network_time": "1-s"}}"#,
      "diffusion.network_time: expected none on path beta, where times are training indices, found 1-s"
    ),
    (#"{"diffusion": {"network_time": "t"}}"#, "diffusion.network_time: expected one of \"1000s\", \"s\", \"1-s\""),
    (#"{"diffusion": {"noise_scale": 2}}"#, "diffusion.noise_scale: expected 1 on path beta, found 2.0"),
    (
      #"{"diffusion": {"prediction": "flow", "noise_scale": 0}}"#,
      "diffusion.noise_scale: expected a number above 0, found 0.0"
    ),
    (#"{"diffusion": {"t_floor": 0.1}}"#, "diffusion.t_floor: expected none on path beta, which does not use it"),
    (
      #"{"diffusion": {"path": "linear", "prediction": "velocity", "t_floor": 0.1}}"#,
      "diffusion.t_floor: expected none with prediction velocity, which does not use it, found 0.1"
    ),
    (
      #"{"diffusion": {"path": "linear", "prediction": "x0", "t_floor": 0}}"#,
      "diffusion.t_floor: expected a number above 0 and at most 1, found 0.0"
    ),
    (
      #"{"diffusion": {"time_distribution": {"logit_normal": [0, 1]}}}"#,
      "diffusion.time_distribution: expected uniform on path beta, whose times are whole, found logit_normal"
    ),
    (
      #"{"diffusion": {"prediction": "flow", "time_distribution": {"logit_normal": [0, 0]}}}"#,
      "diffusion.time_distribution: expected [m, d] with finite m and d above 0, found [0.0, 0.0]"
    ),
    (
      #"{"diffusion": {"prediction": "flow", "time_distribution": {"logit_normal": [0]}}}"#,
      "diffusion.time_distribution.logit_normal: expected [m, d], the mean and deviation of the time's logit"
    ),
    (
      #"{"diffusion": {"prediction": "flow", "time_distribution": "normal"}}"#,
      "diffusion.time_distribution: expected \"uniform\" or {\"logit_normal\": [m, d]}, found \"normal\""
    ),
    (
      #"{"diffusion": {"prediction": "flow", "time_distribution": {"beta": [0, 1]}}}"#,
      "diffusion.time_distribution.logit_normal: expected"
    ),
    (
      #"{"sampling": {"guidance_interval": [0.5, 700]}}"#,
      "sampling.guidance_interval: expected whole times, as path is beta, found 0.5,700"
    ),
    (
      #"{"diffusion": {"path": "linear", "prediction": "x0", "network_time": "s"}, "sampling": {"guidance_interval": [2, 3]}}"#,
      "sampling.guidance_interval: expected times in 0…1, found 2,3"
    ),
    (
      #"{"learn_sigma": false, "diffusion": {"prediction": "flow"}, "sampling": {"sampler": "ddim"}}"#,
      "sampling.sampler: expected euler, heun, sde, dopri5, meanflow, as the model's path is linear, found ddim"
    ),
    (
      #"{"learn_sigma": false, "diffusion": {"prediction": "flow"}, "sampling": {"schedule": "trailing"}}"#,
      "sampling.schedule: expected linspace, as a linear path has an even grid of its own, found trailing"
    ),
    (#"{"sampling": {"sampler": "dpmpp", "eta": 0.5}}"#, "sampling.eta: expected none with the sampler dpmpp"),
    (#"{"sampling": {"schedule": "jump:-1"}}"#, "sampling.schedule: expected jump:γ with a number γ ≥ 0"),
    (#"{"diffusion": {"variance": "learned"}}"#, "diffusion.variance: expected one of "),
    (#"{"diffusion": {"schedule": "sigmoid"}}"#, "diffusion.schedule: expected one of \"linear\", \"cosine\", \"scal"),
    (#"{"diffusion": {"steps": 0}}"#, "diffusion.steps: expected 1…1000000, found 0"),
    (#"{"diffusion": {"steps": 10}}"#, "diffusion.beta_end: expected a value whose product with 1000/10"),
    (#"{"diffusion": {"variance": "fixed_small"}}"#, "diffusion.variance: expected learned_range, as learn_sigma is "),
    (
      #"{"learn_sigma": false, "diffusion": {"variance": "learned_range"}}"#,
      "diffusion.variance: expected a fixed variance, as learn_sigma is false, found learned_range"
    ),
    (#"{"depth": "12"}"#, "depth: expected a whole number, found \"12\""),
    (#"{"depth": 12.5}"#, "depth: expected a whole number, found 12.5"),
    (#"{"depth": 0}"#, "depth: expected 1 to 1024, found 0"),
    (#"{"depth": -1}"#, "depth: expected 1 to 1024, found -1"),
    (#"{"hidden_size": 1048576, "depth": 1024}"#, "num_heads: 6 does not divide hidden_size 1048576"),
    (#"{"hidden_size": 1048576, "num_heads": 8, "depth": 1024}"#, "hidden_size: about "),
    (#"{"patch_size": 3}"#, "patch_size: 3 does not divide the input size 32×32"),
    (#"{"num_heads": 5}"#, "num_heads: 5 does not divide hidden_size 384"),
    (#"{"input_size": [32]}"#, "input_size: expected a number or [H, W], found an array of 1"),
    (#"{"input_size": "32"}"#, "input_size: expected a number or [H, W], found \"32\""),
    (#"{"input_size": [32, 32.0]}"#, "input_size: expected a number or [H, W], found an array of 2"),
    (#"{"mlp_ratio": 0}"#, "mlp_ratio: expected more than 0 and at most 64, found 0"),
    (#"{"num_classes": -1}"#, "num_classes: expected 0 to 16777216, found -1"),
    (#"{"class_dropout_prob": 1}"#, "class_dropout_prob: expected at least 0 and less than 1, found 1.0"),
    (#"{"learn_sigma": 1}"#, "learn_sigma: expected true or false, found 1"),
    (#"{"class_names": ["a"], "num_classes": 2}"#, "class_names: expected 2 names, as num_classes says, found 1"),
    (#"{"class_names": [1]}"#, "class_names: expected an array of strings, found 1 in it"),
    (
      #"{"sampling": {"sampler": "pndm", "schedule": "jump"}}"#,
      "sampling.schedule: expected leading, trailing or linspace, as pndm's weights are those of even steps"
    ),
    (#"{"sampling": {"steps": 0}}"#, "sampling.steps: expected 1 to 1000000, found 0"),
    (#"{"sampling": {"steps": 1001}}"#, "sampling.steps: expected 1…1000, found 1001"),
    (#"{"sampling": {"schedule": "hop"}}"#, "sampling.schedule: expected leading, trailing, linspace, quadratic, jump"),
    (#"{"sampling": {"schedule": "custom:5,1000"}}"#, "sampling.schedule: expected steps in 0…999, found 1000"),
    (#"{"sampling": {"schedule": "custom:1", "steps": 2}}"#, "sampling.steps: expected the 1 of the custom schedule"),
    (#"{"sampling": {"eta": 2}}"#, "sampling.eta: expected 0…1, found 2.0"),
    (#"{"sampling": {"sampler": "ddpm", "eta": 0}}"#, "sampling.eta: expected none with the sampler ddpm, found 0.0"),
    (#"{"sampling": {"guidance": "4"}}"#, "sampling.guidance: expected a number, found \"4\""),
    (
      #"{"class_dropout_prob": 0, "sampling": {"guidance": 4}}"#,
      "sampling.guidance: expected 1, as the model has no null class, found 4.0"
    ),
    (
      #"{"num_classes": 0, "sampling": {"guidance": 1.5}}"#,
      "sampling.guidance: expected 1, as the model has no classes, found 1.5"
    ),
    (#"{"sampling": {"guidance_interval": [5, 2]}}"#, "sampling.guidance_interval: expected [LO, HI] with 0 ≤ LO"),
    (#"{"sampling": {"guidance_channels": 5}}"#, "sampling.guidance_channels: expected 1…4, found 5"),
  ]

  @Test("Each wrong configuration is refused in one line with key, expected and found", arguments: refused)
  func wrongFilesAreRefusedByName(text: String, message: String) {
    let error = #expect(throws: DiTError.self) { try read(text) }
    let line = error?.description ?? ""
    #expect(line.hasPrefix("config.json: \(message)"), "\(line)")
    #expect(!line.contains("\n"))
  }

  @Test("Errors in a section of a training file name the whole path of the key")
  func sectionsOfATrainingFileNameTheirPath() throws {
    let text = #"{"model": {"depth": 2, "diffusion": {"steps": 0}}, "sampling": {"steps": 7}}"#
    var root = try JSONObjectReader(JSONValue(parsing: Array(text.utf8), file: "t.json"), file: "t.json")
    let section = try #require(try root.object("model"))
    let error = #expect(throws: DiTError.self) { try ModelConfiguration(reading: section) }
    #expect(error?.description == "t.json: model.diffusion.steps: expected 1…1000000, found 0")
    let sampling = try SamplingConfiguration(
      reading: try #require(try root.object("sampling")),
      defaults: SamplingConfiguration(sampler: Sampler(.ddim), guidance: Guidance(scale: 1)))
    #expect(sampling.sampler.steps == 7)
    try root.finish()
  }

  @Test("A missing file or a directory is an error of files")
  func missingFileIsAFileError() throws {
    #expect(throws: DiTError(file: "/nowhere/config.json", .missing)) {
      try ModelConfiguration(contentsOf: "/nowhere/config.json")
    }
    #expect(throws: DiTError.self) { try ModelConfiguration(contentsOf: networkFixture("digits")) }
  }
}
