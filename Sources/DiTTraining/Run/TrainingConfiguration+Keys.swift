import DiTFiles
import DiTKernels
import DiTPipeline
import DiTTensor

/// A key of the `training` section: what it is called, what it means, what it is when left out.
public struct TrainingKey: Sendable {
  enum Access: Sendable {
    case integer(WritableKeyPath<TrainingConfiguration, Int> & Sendable, ClosedRange<Int>)
    case number(WritableKeyPath<TrainingConfiguration, Double> & Sendable, ClosedRange<Double>)
    case numbers(WritableKeyPath<TrainingConfiguration, [Double]> & Sendable, ClosedRange<Double>)
    case flag(WritableKeyPath<TrainingConfiguration, Bool> & Sendable)
    case text(WritableKeyPath<TrainingConfiguration, String> & Sendable)
    case schedule, weighting, precision, gemm, brokenImages, exchange
  }

  /// As the file spells it.
  public let name: String
  /// One line for a person.
  public let meaning: String
  let access: Access

  init(_ name: String, _ access: Access, _ meaning: String) {
    self.name = name
    self.access = access
    self.meaning = meaning
  }

  /// The value when the key is left out, as JSON.
  public var defaultText: String { text(in: TrainingConfiguration()) }

  /// The value in `configuration`, as JSON.
  public func text(in configuration: TrainingConfiguration) -> String {
    value(in: configuration).text.split(separator: "\n").joined()
  }

  func value(in configuration: TrainingConfiguration) -> JSONValue {
    switch access {
    case .integer(let path, _): .integer(configuration[keyPath: path])
    case .number(let path, _): .number(configuration[keyPath: path])
    case .numbers(let path, _): .array(configuration[keyPath: path].map(JSONValue.number))
    case .flag(let path): .bool(configuration[keyPath: path])
    case .text(let path): .string(configuration[keyPath: path])
    case .schedule: .string(configuration.schedule.rawValue)
    case .weighting: .string(configuration.lossWeighting.rawValue)
    case .precision: .string(configuration.precision.rawValue)
    case .exchange: .string(configuration.exchange.rawValue)
    case .gemm: .string(configuration.gemm.rawValue)
    case .brokenImages: .string(configuration.brokenImages.rawValue)
    }
  }

  fileprivate func read(
    _ reader: inout JSONObjectReader, into configuration: inout TrainingConfiguration
  ) throws(DiTError) {
    switch access {
    case .integer(let path, _):
      if let value = try reader.integer(name) { configuration[keyPath: path] = value }
    case .number(let path, _):
      if let value = try reader.number(name) { configuration[keyPath: path] = value }
    case .numbers(let path, _):
      if let value = try reader.numbers(name) { configuration[keyPath: path] = value }
    case .flag(let path):
      if let value = try reader.bool(name) { configuration[keyPath: path] = value }
    case .text(let path):
      if let value = try reader.string(name) { configuration[keyPath: path] = value }
    case .schedule:
      if let value = try reader.word(name, LearningRateSchedule.self) { configuration.schedule = value }
    case .weighting:
      if let value = try reader.word(name, LossWeightingName.self) { configuration.lossWeighting = value }
    case .precision:
      if let value = try reader.word(name, Precision.self, among: { $0.isForTraining }) {
        configuration.precision = value
      }
    case .exchange:
      if let value = try reader.word(name, GradientExchange.self) { configuration.exchange = value }
    case .gemm:
      if let value = try reader.word(name, GEMM.self) { configuration.gemm = value }
    case .brokenImages:
      if let value = try reader.word(name, BrokenImages.self) { configuration.brokenImages = value }
    }
  }

  /// What is expected and found where the value lies outside its range.
  fileprivate func problem(in configuration: TrainingConfiguration) -> (expected: String, found: String)? {
    switch access {
    case .integer(let path, let range):
      let value = configuration[keyPath: path]
      let most = range.upperBound == .max ? "or more" : "to \(range.upperBound)"
      return range.contains(value) ? nil : ("\(range.lowerBound) \(most)", "\(value)")
    case .number(let path, let range):
      let value = configuration[keyPath: path]
      return range.contains(value) ? nil : ("\(range.lowerBound) to \(range.upperBound)", "\(value)")
    case .numbers(let path, let range):
      let outside = configuration[keyPath: path].first { !range.contains($0) }
      return outside.map { ("numbers from \(range.lowerBound) to \(range.upperBound)", "\($0) among them") }
    case .flag, .text, .schedule, .weighting, .precision, .gemm, .brokenImages, .exchange: return nil
    }
  }
}

extension TrainingConfiguration {
  /// Every key, in the order of the file.
  public static let keys: [TrainingKey] = [
    TrainingKey("steps", .integer(\.steps, 1...1_000_000_000), "optimizer steps in total"),
    TrainingKey("batch", .integer(\.batch, 1...1_000_000), "samples per optimizer step"),
    TrainingKey(
      "micro_batch", .integer(\.microBatch, 0...1_000_000),
      "samples computed at a time (gradient accumulation), a divisor of batch; 0 takes the largest with at most 8192 tokens"
    ),
    TrainingKey(
      "virtual_ranks", .integer(\.virtualRanks, 1...1024),
      "parts of a batch whose gradients are added in one order: the number of processes of a run divides it, and changes no bit"
    ),
    TrainingKey(
      "exchange", .exchange,
      "the virtual ranks' gradients on their way: fp32, or bf16 at half the bytes, each one and each partial sum rounded to it"
    ),
    TrainingKey("learning_rate", .number(\.learningRate, 0...1), "AdamW's learning rate after the warm-up"),
    TrainingKey(
      "warmup_steps", .integer(\.warmupSteps, 0...1_000_000_000),
      "steps of linear warm-up from 0; a shorter run ends inside them"),
    TrainingKey(
      "schedule", .schedule, "learning rate after the warm-up: cosine (to 0 at step schedule_steps) or constant"),
    TrainingKey(
      "schedule_steps", .integer(\.scheduleSteps, 0...1_000_000_000),
      "step at which cosine has come to 0, where it stays; 0 for the last step, also of a run resumed with more steps"),
    TrainingKey("weight_decay", .number(\.weightDecay, 0...1), "AdamW's weight decay, on every trainable tensor"),
    TrainingKey("beta1", .number(\.beta1, 0...0.999999), "decay of AdamW's first moment"),
    TrainingKey("beta2", .number(\.beta2, 0...0.999999), "decay of AdamW's second moment"),
    TrainingKey("epsilon", .number(\.epsilon, 1e-30...1), "added to the root of the second moment"),
    TrainingKey(
      "ema_decay", .number(\.emaDecay, 0...1),
      "largest decay of the exponential moving average; at step n it is at most (1+n)/(10+n)"),
    TrainingKey(
      "ema_decays", .numbers(\.emaDecays, 0...1),
      "[a, b, …]: several averages in place of ema_decay's, a in ema.safetensors, each other b in ema-b.safetensors"),
    TrainingKey(
      "ema_warmup", .flag(\.emaWarmup),
      "limit the decays to (1+n)/(10+n) at step n; false: the full decay from the first step"
    ),
    TrainingKey(
      "proj_dropout", .number(\.projDropout, 0...0.99),
      "dropout of attention's output and the hidden layer in the middle half of the blocks"),
    TrainingKey("gradient_clip", .number(\.gradientClip, 0...1e9), "largest global gradient norm; 0 disables clipping"),
    TrainingKey(
      "loss_weighting", .weighting,
      "uniform, or min_snr (Hang et al. 2023): the error of the clean image weighted by min(SNR, gamma)"),
    TrainingKey("min_snr_gamma", .number(\.minSNRGamma, 1e-6...1e9), "gamma of min_snr; unused with uniform"),
    TrainingKey(
      "lambda_seq", .number(\.lambdaSeq, 0...1e9),
      "weight of the sequence-consistency loss, 0 for none; its prior is fitted to the training samples"),
    TrainingKey("flip", .flag(\.flip), "random horizontal flips with probability 1/2; off for digits"),
    TrainingKey(
      "seed", .integer(\.seed, 0...Int.max),
      "random seed of initial weights, data order, t, noise, label dropout and flips"),
    TrainingKey(
      "validation_modulus", .integer(\.validationModulus, 0...1_000_000_000),
      "M holds out every sample i with i mod M = M-1; 0 holds none out; digits use 5"),
    TrainingKey(
      "checkpoint_every", .integer(\.checkpointEvery, 0...1_000_000_000),
      "steps between checkpoints; 0 for one at the last step only"),
    TrainingKey(
      "keep_checkpoints", .integer(\.keepCheckpoints, 1...1_000_000), "number of checkpoints to keep, the newest"),
    TrainingKey(
      "validate_every", .integer(\.validateEvery, 0...1_000_000_000),
      "steps between validation losses (of the averaged weights); 0 for none"),
    TrainingKey("sample_every", .integer(\.sampleEvery, 0...1_000_000_000), "steps between sample grids; 0 for none"),
    TrainingKey(
      "evaluate_every", .integer(\.evaluateEvery, 0...1_000_000_000),
      "steps between evaluations of samples (of the averaged weights), and after the last; the best weights are kept in DIR/best; 0 for none"
    ),
    TrainingKey(
      "evaluate_samples", .integer(\.evaluateSamples, 2...100_000),
      "samples of an evaluation, by the model's own sampling settings"),
    TrainingKey(
      "evaluate_reference", .text(\.evaluateReference),
      "the set that they are measured against, as dit evaluate takes it; \"\" for the held-out samples"),
    TrainingKey(
      "evaluate_features", .text(\.evaluateFeatures),
      "in what: pixels, pca:K, or a network's file, as dit evaluate --features"),
    TrainingKey("evaluate_resize", .text(\.evaluateResize), "as dit evaluate --resize; \"\" for the network's own"),
    TrainingKey(
      "evaluate_measures", .text(\.evaluateMeasures),
      "a list of frechet, spatial, inception, precision, density, copies; the first says which weights are the best"),
    TrainingKey("log_every", .integer(\.logEvery, 1...1_000_000_000), "steps between lines of log.jsonl"),
    TrainingKey(
      "precision", .precision,
      "fp32, or bf16: mixed precision with float32 master weights and accumulation; needs no loss scaling"),
    TrainingKey(
      "gemm", .gemm,
      "matrix-multiplication backend: blas (OpenBLAS), packed (built-in kernels) or auto, the faster one on this CPU"),
    TrainingKey(
      "recompute", .flag(\.recompute),
      "gradient checkpointing: keep a fifth of the activations and recompute the rest, to save memory"),
    TrainingKey(
      "broken_images", .brokenImages,
      "broken files of a folder: refuse, or skip (which decodes every file before the first step); both name them"),
    TrainingKey(
      "cache_megabytes", .integer(\.cacheMegabytes, 0...1 << 30),
      "a folder whose resized images fit this many MiB is decoded once, into memory; a larger one during training"),
    TrainingKey(
      "loader_threads", .integer(\.loaderThreads, 1...64),
      "threads that decode ahead of the training step, where a folder is larger than the cache"),
  ]

  /// The keys that change how data are read and never what is learnt: a run may be resumed with others. (What skipping
  /// leaves out is part of the data's digest.)
  static let loading = ["broken_images", "cache_megabytes", "loader_threads"]

  /// The keys that change what is looked at on the way and never what is learnt.
  static let watching = [
    "evaluate_every", "evaluate_samples", "evaluate_reference", "evaluate_features", "evaluate_resize",
    "evaluate_measures",
  ]

  /// Whether values of evaluations compare with those of other settings.
  func measures(asIn other: TrainingConfiguration) -> Bool {
    func first(_ list: String) -> Substring? { list.split(separator: ",").first }
    return evaluateSamples == other.evaluateSamples && evaluateReference == other.evaluateReference
      && evaluateFeatures == other.evaluateFeatures && evaluateResize == other.evaluateResize
      && first(evaluateMeasures) == first(other.evaluateMeasures)
  }

  /// The keys that a run which is resumed with more steps may change: what its steps were is not changed by them.
  static let length = ["steps", "schedule_steps"]

  /// A `training` section; keys left out keep their value in `defaults`. Takes every key and finishes the reader.
  ///
  /// - Throws: `DiTError` for an unknown key, another type, a value out of range, or a contradiction.
  public init(
    reading reader: JSONObjectReader, defaults: TrainingConfiguration = TrainingConfiguration()
  ) throws(DiTError) {
    var reader = reader
    var configuration = defaults
    for key in Self.keys { try key.read(&reader, into: &configuration) }
    try reader.finish()
    try configuration.validate(file: reader.file, path: reader.path)
    self = configuration
  }

  /// Every key, in the table's order; reading it gives an equal value.
  public var json: JSONValue {
    .object(Self.keys.map { JSONMember($0.name, $0.value(in: self)) })
  }

  /// Throws unless every value is in its range and none contradicts another.
  ///
  /// - Parameters:
  ///   - file: what the error calls the source.
  ///   - path: the section that holds the keys.
  public func validate(
    file: String = "training configuration", path: String = ""
  ) throws(DiTError) {
    let prefix = path.isEmpty ? "" : path + "."
    for key in Self.keys {
      if let (expected, found) = key.problem(in: self) {
        throw DiTError(file: file, key: prefix + key.name, expected: expected, found: found)
      }
    }
    guard precision.isForTraining else {
      throw DiTError(
        file: file, key: prefix + "precision", expected: "fp32 or bf16, as int8 is for inference",
        found: "\"\(precision.rawValue)\"")
    }
    guard batch % virtualRanks == 0 else {
      throw DiTError(
        file: file, key: prefix + "virtual_ranks", expected: "a divisor of batch \(batch)", found: "\(virtualRanks)")
    }
    if microBatch > 0, virtualBatch % microBatch != 0 {
      let whole =
        virtualRanks == 1 ? "batch \(batch)" : "\(virtualBatch), the samples of each of \(virtualRanks) virtual_ranks"
      throw DiTError(
        file: file, key: prefix + "micro_batch", expected: "a divisor of \(whole)", found: "\(microBatch)")
    }
    if Set(emaDecays).count < emaDecays.count {
      throw DiTError(
        file: file, key: prefix + "ema_decays", expected: "each decay once, as files are named after them",
        found: "[\(emaDecays.map { "\($0)" }.joined(separator: ", "))]")
    }
    if !numerics.isSupported {
      throw DiTError(
        file: file, key: prefix + "gemm", expected: "packed or auto with bf16, of which OpenBLAS has no products",
        found: gemm.rawValue)
    }
    if validationModulus == 1 {
      throw DiTError(
        file: file, key: prefix + "validation_modulus", expected: "0, or 2 or more so that some samples are trained on",
        found: "1")
    }
  }
}
