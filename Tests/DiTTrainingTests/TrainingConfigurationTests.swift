import DiTFiles
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import Testing

@Suite("Training settings") struct ConfigurationTests {
  private func read(_ json: String) throws -> TrainingConfiguration {
    let value = try JSONValue(parsing: Array(json.utf8), file: "train.json")
    return try TrainingConfiguration(reading: JSONObjectReader(value, file: "train.json", path: "training"))
  }

  /// Another value than the default for every key.
  private static let others: [String: String] = [
    "steps": "7", "batch": "12", "micro_batch": "64", "virtual_ranks": "4", "exchange": "\"bf16\"",
    "learning_rate": "0.5", "warmup_steps": "3",
    "schedule": "\"constant\"", "schedule_steps": "9", "weight_decay": "0", "beta1": "0.5", "beta2": "0.25",
    "epsilon": "0.001",
    "ema_decay": "0.5", "ema_decays": "[0.5, 0.25]", "ema_warmup": "false", "gradient_clip": "1.5",
    "proj_dropout": "0.25",
    "loss_weighting": "\"min_snr\"", "min_snr_gamma": "2.5",
    "lambda_seq": "0.5", "flip": "false", "seed": "42", "validation_modulus": "5",
    "checkpoint_every": "11", "keep_checkpoints": "3", "validate_every": "13", "sample_every": "0", "log_every": "1",
    "evaluate_every": "17", "evaluate_samples": "19", "evaluate_reference": "\"digits:test\"",
    "evaluate_features": "\"pca:8\"", "evaluate_resize": "\"clean-fid\"", "evaluate_measures": "\"copies,frechet\"",
    "precision": "\"bf16\"", "gemm": "\"packed\"", "recompute": "true",
    "broken_images": "\"skip\"", "cache_megabytes": "0", "loader_threads": "5",
  ]

  @Test("Every key is read, changes only its own setting and is written again")
  func everyKeyIsReadAndWritten() throws {
    #expect(Set(Self.others.keys) == Set(TrainingConfiguration.keys.map(\.name)))
    for key in TrainingConfiguration.keys {
      let text = try #require(Self.others[key.name])
      let found = try read("{\"\(key.name)\": \(text)}")
      #expect(key.text(in: found) == text, "\(key.name)")
      #expect(key.defaultText != text && key.text(in: TrainingConfiguration()) == key.defaultText, "\(key.name)")
      let others = TrainingConfiguration.keys.filter { $0.name != key.name && $0.text(in: found) != $0.defaultText }
      #expect(others.isEmpty, "\(key.name) also changed \(others.map(\.name))")
      let again = try TrainingConfiguration(reading: JSONObjectReader(found.json, file: ""))
      #expect(again == found, "\(key.name)")
    }
  }

  @Test("The defaults are the published ones")
  func publishedDefaults() throws {
    let c = try read("{}")
    #expect(c == TrainingConfiguration())
    let numbers = [c.learningRate, c.weightDecay, c.beta1, c.beta2, c.epsilon, c.emaDecay]
    #expect(numbers == [1e-4, 0.05, 0.9, 0.999, 1e-8, 0.9999])
    #expect(c.warmupSteps == 5000 && c.batch == 128 && c.schedule == .cosine && c.flip && c.gradientClip == 0)
  }

  @Test(
    "Wrong values are refused in one line with their key",
    arguments: [
      (#"{"stps": 5}"#, "train.json: training.stps: "), (#"{"steps": 0}"#, "training.steps: expected 1"),
      (#"{"steps": 1.5}"#, "training.steps: expected a whole number"),
      (#"{"batch": 0}"#, "training.batch: "), (#"{"learning_rate": -1}"#, "training.learning_rate: "),
      (#"{"beta2": 1}"#, "training.beta2: "), (#"{"ema_decay": 1.5}"#, "training.ema_decay: "),
      (#"{"ema_decays": [0.9, 1.5]}"#, "training.ema_decays: expected numbers from 0.0 to 1.0, found 1.5 among them"),
      (#"{"ema_decays": [0.9, 0.9]}"#, "training.ema_decays: expected each decay once"),
      (#"{"ema_decays": 0.9}"#, "training.ema_decays: expected an array of numbers"),
      (#"{"ema_warmup": 0}"#, "training.ema_warmup: "),
      (#"{"flip": 1}"#, "training.flip: "), (#"{"schedule": "linear"}"#, "training.schedule: "),
      (#"{"keep_checkpoints": 0}"#, "training.keep_checkpoints: "), (#"{"seed": -1}"#, "training.seed: "),
      (#"{"batch": 10, "micro_batch": 4}"#, "training.micro_batch: expected a divisor of batch 10, found 4"),
      (#"{"precision": "fp16"}"#, "training.precision: "), (#"{"gemm": "mkl"}"#, "training.gemm: "),
      (#"{"loss_weighting": "snr"}"#, "training.loss_weighting: expected one of \"uniform\", \"min_snr\""),
      (#"{"min_snr_gamma": 0}"#, "training.min_snr_gamma: "),
      (#"{"recompute": 1}"#, "training.recompute: "),
      (#"{"precision": "bf16", "gemm": "blas"}"#, "training.gemm: expected packed or auto with bf16"),
      (#"{"validation_modulus": 1}"#, "training.validation_modulus: expected 0, or 2"),
    ])
  func badValuesAreNamed(_ json: String, _ message: String) {
    let error = #expect(throws: DiTError.self) { try read(json) }
    #expect(description(error).contains(message) && !description(error).contains("\n"), "\(description(error))")
  }

  @Test("Codable is as strict as files, and names the whole path in a program's own type")
  func codable() throws {
    struct Experiment: Codable, Equatable { var training: TrainingConfiguration }
    for (key, value) in Self.others {
      let experiment = Experiment(training: try read("{\"\(key)\": \(value)}"))
      let json = try JSONEncoder().encode(experiment)
      #expect(try JSONDecoder().decode(Experiment.self, from: json) == experiment, "\(key)")
    }
    for (json, key) in [(#"{"step": 3}"#, "training.step"), (#"{"batch": 0}"#, "training.batch")] {
      let error = #expect(throws: DiTError.self) {
        try JSONDecoder().decode(Experiment.self, from: Data("{\"training\": \(json)}".utf8))
      }
      #expect(error?.key == key && error?.file == nil)
    }
  }

  @Test("A learning rate that is not a number is refused from code too")
  func nonFiniteFromCodeIsRefused() {
    var c = TrainingConfiguration()
    c.learningRate = .nan
    #expect(throws: DiTError.self) { try c.validate() }
  }

  @Test("The learning rate warms up and follows its schedule")
  func learningRate() {
    var c = TrainingConfiguration()
    (c.steps, c.warmupSteps, c.learningRate) = (110, 10, 2)
    let expected = [1: 0.2, 5: 1, 10: 2, 35: 1 + 0.5.squareRoot(), 60: 1, 110: 0]
    for (step, rate) in expected {
      #expect(abs(c.learningRate(step: step) - rate) < 1e-12, "step \(step): \(c.learningRate(step: step))")
    }
    c.schedule = .constant
    #expect(c.learningRate(step: 5) == 1 && c.learningRate(step: 11) == 2 && c.learningRate(step: 110) == 2)
    // Shorter than its warm-up: ends inside it.
    (c.schedule, c.steps, c.warmupSteps) = (.cosine, 40, 50)
    #expect(c.learningRate(step: 40) == 2 * 40.0 / 50)
    c.warmupSteps = 0
    #expect(c.learningRate(step: 20) == 1 && c.learningRate(step: 40) == 0)
  }

  @Test("The average's decay starts small and reaches ema_decay")
  func averageDecay() {
    let c = TrainingConfiguration()
    #expect(c.emaDecay(step: 1) == 2.0 / 11 && c.emaDecay(step: 5) == 6.0 / 15)
    #expect(c.emaDecay(step: 10_000_000) == 0.9999)
  }

  @Test("The micro-batch follows the number of tokens and divides the batch")
  func chosenMicroBatch() {
    var c = TrainingConfiguration()
    #expect(c.microBatch(tokens: 256) == 32 && c.microBatch(tokens: 16) == 128 && c.microBatch(tokens: 10_000) == 1)
    c.batch = 90
    #expect(c.microBatch(tokens: 256) == 30)
    c.microBatch = 45
    #expect(c.microBatch(tokens: 256) == 45)
  }
}
