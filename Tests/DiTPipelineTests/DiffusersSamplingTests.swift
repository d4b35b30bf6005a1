import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTPipeline
import DiTTensor
import Testing

/// Models with a saved diffusers scheduler against diffusers' pipeline around the torch network:
/// Tests/Fixtures/network/latent/pipeline.safetensors.
@Suite("Sampling with a saved diffusers scheduler") struct DiffusersSamplingTests {
  private static let tolerance = 2e-4

  /// What official directories save.
  static var saved: DiffusersScheduler {
    var saved = DiffusersScheduler()
    (saved.clipSample, saved.setAlphaToOne, saved.stepsOffset) = (false, true, 0)
    return saved
  }

  private func model() throws -> DiT {
    let directory = try ModelDirectory(contentsOf: networkFixture("latent"))
    return try DiT(
      configuration: ModelConfiguration(network: directory.configuration.network, scheduler: Self.saved),
      weights: directory.weights(), context: ComputeContext(threads: 2))
  }

  private func sample(
    _ model: DiT, _ name: SamplerName, _ steps: Int, guidance: Double, seed: UInt64 = 33, batch: Int? = nil,
    schedule: StepSchedule? = nil, random: RandomStream = .torch, start: Tensor? = nil
  ) throws -> Tensor {
    let labels = try open("latent/pipeline.safetensors").integers("labels").values
    let options = SamplingOptions(
      sampler: Sampler(name, steps: steps, schedule: schedule), guidance: Guidance(scale: guidance), seed: seed,
      random: random, batch: batch)
    return try model.sample(.classes(labels), options: options, start: Start(noise: start)).images
  }

  @Test("Samples are those of diffusers' pipeline around the torch network")
  func samplesAreThePipelines() throws {
    let file = try open("latent/pipeline.safetensors")
    let model = try model()
    let runs = file.names.filter { $0 != "labels" }
    #expect(runs.count == 7)
    for run in runs {
      let words = run.split(separator: ":").map(String.init)
      let found = try sample(
        model, #require(SamplerName(rawValue: words[0])), #require(Int(words[1])),
        guidance: #require(Double(words[2])), seed: #require(UInt64(words[3])))
      let difference = try Difference(found, file.tensor(run))
      #expect(difference.relative <= Self.tolerance, "\(run): \(difference)")
    }
  }

  /// What is near is not the same: other guidance, seed, sampler, steps, spacing, stream.
  @Test("Another guidance, seed, sampler, step count, spacing or stream misses diffusers' samples")
  func otherSettingsMissDiffusersSamples() throws {
    let file = try open("latent/pipeline.safetensors")
    let expected = try file.tensor("dpmpp:20:4:33")
    let model = try model()
    let others: [(String, Tensor)] = [
      ("guidance 3.9", try sample(model, .dpmpp, 20, guidance: 3.9)),
      ("another seed", try sample(model, .dpmpp, 20, guidance: 4, seed: 34)),
      ("unipc", try sample(model, .unipc, 20, guidance: 4)),
      ("21 steps", try sample(model, .dpmpp, 21, guidance: 4)),
      ("leading", try sample(model, .dpmpp, 20, guidance: 4, schedule: .leading)),
      ("philox", try sample(model, .dpmpp, 20, guidance: 4, random: .philox)),
    ]
    for (name, found) in others {
      let relative = Difference(found, expected).relative
      #expect(relative > 10 * Self.tolerance, "\(name): \(relative)")
    }
  }

  /// Noise is drawn for the whole batch at each step, however many images run at once, also from a given start.
  @Test(
    "With torch's stream, sampling in parts draws the noise of the whole batch",
    arguments: [SamplerName.ddpm, .ddim])
  func partsDrawTheNoiseOfTheWhole(_ name: SamplerName) throws {
    let model = try model()
    var options = SamplingOptions(
      sampler: Sampler(name, steps: 5, eta: name == .ddim ? 0.7 : nil), guidance: Guidance(scale: 2), seed: 3,
      random: .torch)
    let classes = [1, 2, 3, 4, 5]
    let whole = try model.sample(.classes(classes), options: options).images
    for batch in [1, 2, 3] {
      options.batch = batch
      #expect(try model.sample(.classes(classes), options: options).images == whole, "\(batch) at once")
    }
    var random = TorchGenerator(seed: 3)
    let noise = Tensor(shape: whole.shape, elements: random.normal(count: whole.count))
    #expect(try model.sample(.classes(classes), options: options, start: Start(noise: noise)).images == whole)
    // Image n depends on how many there are: torch's stream is one.
    options.batch = nil
    let fewer = try model.sample(.classes(Array(classes.prefix(4))), options: options).images
    #expect(fewer.elements != Array(whole.elements.prefix(fewer.count)))
  }

  // MARK: config.json

  @Test("A saved scheduler is written to config.json and read back equal")
  func aSavedSchedulerIsKept() throws {
    let directory = try TemporaryDirectory()
    var saved = Self.saved
    saved.trainedBetas = (0..<10).map { 0.01 + 0.01 * Double($0) }
    saved.trainSteps = 10
    (saved.timestepSpacing, saved.varianceType, saved.disableCorrector) = ("trailing", "fixed_large", [])
    (saved.lambdaMinClipped, saved.useKarrasSigmas, saved.solverOrder) = (-5.5, false, 2)
    let network = try ModelDirectory(contentsOf: networkFixture("latent")).configuration.network
    var configuration = try ModelConfiguration(network: network, scheduler: saved)
    #expect(configuration.sampling.sampler == Sampler(.ddim, steps: 10))
    try configuration.write(to: directory("a.json"))
    #expect(try ModelConfiguration(contentsOf: directory("a.json")) == configuration)
    configuration.sampling.sampler = Sampler(.unipc, steps: 7, schedule: .leading)
    try configuration.write(to: directory("b.json"))
    #expect(try ModelConfiguration(contentsOf: directory("b.json")) == configuration)
  }

  /// The file as diffusers writes it, with Python's nulls and infinities.
  @Test("A scheduler file as diffusers writes it is read, nulls and infinities included")
  func aFileOfDiffusersIsRead() throws {
    let text = """
      {"_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.42.1", "algorithm_type": "dpmsolver++",
       "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001, "dynamic_thresholding_ratio": 0.995,
       "euler_at_final": false, "final_sigmas_type": "zero", "flow_shift": 1.0, "lambda_min_clipped": -Infinity,
       "lower_order_final": true, "num_train_timesteps": 1000, "prediction_type": "v_prediction",
       "rescale_betas_zero_snr": false, "sample_max_value": 1.0, "solver_order": 2, "solver_type": "midpoint",
       "steps_offset": 1, "thresholding": false, "time_shift_type": "exponential", "timestep_spacing": "linspace",
       "trained_betas": null, "use_beta_sigmas": false, "use_dynamic_shifting": false,
       "use_exponential_sigmas": false, "use_flow_sigmas": false, "use_karras_sigmas": null, "use_lu_lambdas": false,
       "variance_type": null}
      """
    let directory = try TemporaryDirectory()
    let path = try directory.write(text, to: "scheduler_config.json")
    let scheduler = try DiffusersScheduler(
      reading: JSONObjectReader(JSONValue(contentsOf: path, fromPython: true), file: path))
    #expect(scheduler.sampler == .dpmpp && scheduler.predictionType == "v_prediction" && scheduler.stepsOffset == 1)
    #expect(scheduler.trainedBetas == nil && scheduler.varianceType == nil && scheduler.useKarrasSigmas == nil)
    #expect(scheduler.lambdaMinClipped == nil && scheduler.clipSample == nil)
    #expect(throws: DiTError.self) { _ = try JSONValue(contentsOf: path) }
    let noise = try scheduler.noise(.learnedRange)
    #expect(try scheduler.process(.dpmpp, on: noise, nil, count: 20).evaluations.first?.index == 999)
    #expect(scheduler.ignoredKeys.isEmpty)
    func read(_ text: String) throws -> DiffusersScheduler {
      let other = try directory.write(text, to: "other.json")
      return try DiffusersScheduler(
        reading: JSONObjectReader(JSONValue(contentsOf: other, fromPython: true), file: other))
    }
    // What nobody reads is kept for a conversion, and told; what is listed as a default of the class is none of the file's.
    let more = #""steps_offset": 1, "original_inference_steps": 50, "_use_default_values": ["timestep_spacing"]"#
    let left = try read(text.replacing("\"steps_offset\": 1", with: more))
    #expect(left.ignoredKeys == ["original_inference_steps"] && left.timestepSpacing == nil)
    #expect(left.json.text.contains("original_inference_steps"))
    #expect(
      try left.process(.dpmpp, on: noise, nil, count: 20) as? MultistepSampler
        == scheduler.process(.dpmpp, on: noise, nil, count: 20) as? MultistepSampler)
    let error = #expect(throws: DiTError.self) {
      _ = try read(text.replacing("\"solver_order\": 2", with: "\"solver_order\": \"2\""))
    }
    #expect(error?.key == "solver_order")
  }

  @Test("Scheduler keys that contradict the model are refused by key")
  func contradictionsAreNamed() throws {
    let directory = try TemporaryDirectory()
    let latent = "\"in_channels\": 4, \"hidden_size\": 48, \"depth\": 2, \"num_heads\": 3, \"num_classes\": 7"
    for (section, key) in [
      (#""diffusers_scheduler": {"beta_schedule": "sigmoid"}"#, "diffusers_scheduler.beta_schedule"),
      (#""diffusers_scheduler": {"beta_end": 2}"#, "diffusers_scheduler.beta_end"),
      (
        #""diffusers_scheduler": {"num_train_timesteps": 500}, "diffusion": {"steps": 1000}"#,
        "diffusers_scheduler.num_train_timesteps"
      ),
      (#""diffusers_scheduler": {}, "diffusion": {"prediction": "v"}"#, "diffusers_scheduler.prediction_type"),
      (#""diffusers_scheduler": {}, "sampling": {"steps": 1001}"#, "sampling.steps"),
    ] {
      let path = try directory.write("{\(latent), \(section)}", to: "config.json")
      let error = #expect(throws: DiTError.self) { _ = try ModelConfiguration(contentsOf: path) }
      #expect(error?.key == key, "\(section): \(error.map { "\($0)" } ?? "none")")
    }
  }
}

/// x̂_*, which those who follow a run can see.
@Suite("The estimate of the clean image during sampling") struct EstimateTests {
  /// DDIM's step holds it: x = α x̂ + σ ε̂ before, x' = α' x̂ + σ' ε̂ after.
  @Test("Each DDIM step moves towards the reported estimate")
  func aStepGoesToItsEstimate() throws {
    let model = try DiT(contentsOf: networkFixture("digits"))
    let noise = normal([3, 1, 8, 8], seed: 4)
    let options = SamplingOptions(sampler: Sampler(.ddim, steps: 4), guidance: Guidance(scale: 2), batch: 2)
    let times = try model.process(options.sampler).evaluations.map(\.index)
    let bars = times.map { model.schedule.alphasCumprod[$0] } + [1]
    var before = Array(noise.elements.prefix(2 * 64))
    var estimates: [Tensor] = []
    _ = try model.sample(.classes([1, 2, 3]), options: options, start: Start(noise: noise)) { progress in
      guard progress.images.lowerBound == 0 else { return true }
      let (now, next) = (bars[progress.step - 1], bars[progress.step])
      let after = progress.x
      let expected = zip(before, after.elements).map { x, y -> Float in
        let (spread, nextSpread) = ((1 - now).squareRoot(), (1 - next).squareRoot())
        let divisor = nextSpread * now.squareRoot() - spread * next.squareRoot()
        return Float((nextSpread * Double(x) - spread * Double(y)) / divisor)
      }
      before = after.elements
      let estimate = try #require(progress.estimate)
      estimates.append(estimate)
      let difference = Difference(estimate, Tensor(shape: after.shape, elements: expected))
      #expect(difference.relative < 1e-4, "step \(progress.step): \(difference)")
      return true
    }
    #expect(estimates.count == 4 && estimates[0] != estimates[1])
  }

  /// A flow's estimate: Euler's last step goes to it. A run backwards has none.
  @Test("A flow's last step arrives at its estimate, and an inversion has none")
  func flowsAndInversions() throws {
    var network = smallNetwork
    network.learnSigma = false
    let configuration = ModelConfiguration(
      network: network, diffusion: DiffusionConfiguration(prediction: .flow, variance: .fixedLarge))
    let model = try DiT(
      configuration: configuration, weights: randomWeights(network), context: ComputeContext(threads: 1))
    var last: Tensor?
    let options = SamplingOptions(sampler: Sampler(.euler, steps: 3), guidance: Guidance(scale: 1))
    let samples = try model.sample(.classes([1]), options: options) { progress in
      #expect(progress.step == 3 || progress.estimate != progress.x)
      last = progress.estimate
      return true
    }
    #expect(Difference(try #require(last), samples.images).relative < 1e-6)
    _ = try model.invert(samples.images, classes: [1], options: options) { progress in
      #expect(progress.estimate == nil)
      return true
    }
  }
}
