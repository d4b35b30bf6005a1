import DiTDistributed
import DiTEngine
import DiTPictures
import Foundation

/// What `dit train` is to do: by the command line, the configuration, the data and the model to start from.
struct TrainingRequest {
  /// Options that override the configuration.
  struct Overrides {
    var steps, scheduleSteps, batch, seed: Int?
    var numerics = NumericsOptions()
    var recompute = false
    var brokenImages: BrokenImages?

    fileprivate func apply(to training: inout TrainingConfiguration) throws {
      for (option, value, least) in [
        ("--steps", steps, 1), ("--schedule-steps", scheduleSteps, 0), ("--batch", batch, 1), ("--seed", seed, 0),
      ] {
        if let value, value < least { throw Failure.usage(option, expected: "at least \(least)", found: "\(value)") }
      }
      let chosen = try numerics.numerics(
        defaults: training.numerics, withoutInt8: "int8 is for inference")
      (training.precision, training.gemm) = (chosen.precision, chosen.gemm)
      if recompute { training.recompute = true }
      if let brokenImages { training.brokenImages = brokenImages }
      if let steps { training.steps = steps }
      if let scheduleSteps { training.scheduleSteps = scheduleSteps }
      if let seed { training.seed = seed }
      if let batch {
        training.batch = batch
        let (ranks, micro) = (training.virtualRanks, max(1, training.microBatch))
        guard batch % (ranks * micro) == 0 else {
          let parts =
            (ranks > 1 ? ["training.virtual_ranks, \(ranks)"] : [])
            + (micro > 1 ? ["training.micro_batch, \(micro)"] : [])
          throw Failure.usage(
            "--batch", expected: "a multiple of \(parts.joined(separator: ", times "))", found: "\(batch)")
        }
      }
    }
  }

  private(set) var model: ModelConfiguration
  private(set) var training: TrainingConfiguration
  /// The initial weights; nil for a new network's.
  private var start: StartingWeights?
  /// The directory of an autoencoder that the run copies; nil where there is none, or the run has it already.
  private(set) var autoencoder: String?
  /// Notes for the user, one per line.
  private(set) var notes: [String] = []

  /// A new run.
  ///
  /// - Parameter virtualRanks: where the configuration does not say; nil is what it is by default.
  init(
    data: String, content: TrainingData, config: String?, from: String?, weights choice: WeightsOption,
    heads: HeadsOption, overrides: Overrides, virtualRanks: Int?
  ) throws {
    let classes = content.classes
    let from = try from.map(ShippedResources.model)
    let shipped = try ShippedResources.DataSet.named(data).map { try ConfigurationFile(contentsOf: $0.training()) }
    let given = try config.map { try ConfigurationFile(contentsOf: $0, classes: classes, defaults: shipped?.training) }
    let source = try from.map { name in
      let keys = given?.model == nil ? nil : try config.map { try ModelKeys(contentsOf: $0) }
      let hints = StateDictHints(heads: heads.heads, keys: keys, keysMayNotFit: true)
      return try heads.attributingErrors {
        try ModelReference(name).load(choice.weights ?? .emaPreferred, hints: hints)
      }
    }
    notes = source?.notes ?? []
    if let word = choice.weights?.rawValue, source?.weights == nil {
      throw Failure.usage("--weights", expected: "none but with --from MODEL that has weights", found: word)
    }
    training = given?.training ?? shipped?.training ?? TrainingConfiguration()
    if let virtualRanks, given?.statesVirtualRanks != true { training.virtualRanks = virtualRanks }
    guard var model = given?.model ?? source?.configuration ?? shipped?.model else {
      throw Failure.usage(
        "--config",
        expected: "a configuration with a model, or --from MODEL (only digits, emoji and fashion have a default)",
        found: "none"
      )
    }
    if given?.model == nil, let source {
      notes += classes.apply(to: &model)
      if source.weights == nil { model.sampling = .recommended(model.network, model.diffusion) }
      autoencoder = try from.flatMap { try model.autoencoderDirectory(in: $0) }
    } else if model.hasAbsoluteAutoencoderPath {
      autoencoder = try model.autoencoderDirectory(in: "/")
    }
    if autoencoder != nil { model.autoencoder = ModelDirectory.autoencoderName }
    self.model = model
    try given?.applySampling(to: &self.model)
    try overrides.apply(to: &training)
    guard let source, let weights = source.weights, let from else { return }
    var starting = try StartingWeights(
      from: weights, of: source.configuration.network, for: model.network, seed: training.seed, name: from)
    if case .stateDict(let path) = try ModelReference(from) {
      let areAverages = choice.weights != .model && (try? TorchFile(contentsOf: path).isAverage) == true
      try starting.takeUpAdam(of: path, areAverages: areAverages)
    }
    start = starting
    notes += starting.notes
  }

  /// A resumed run: its own settings, or those of the command line, which must then agree with them.
  init(resuming checkpoint: Checkpoint, config: String?, content: TrainingData, overrides: Overrides) throws {
    model = checkpoint.model
    training = checkpoint.training
    if let config {
      let given = try ConfigurationFile(contentsOf: config, classes: content.classes, defaults: checkpoint.training)
      if var stated = given.model {
        if stated.hasAbsoluteAutoencoderPath { stated.autoencoder = model.autoencoder }  // copied when it began
        model = stated
      }
      training = given.training ?? training
      try given.applySampling(to: &model)
    }
    try overrides.apply(to: &training)
  }
}

extension TrainingRequest {
  /// The trainer of the run. The initial weights are not kept beside it.
  mutating func trainer(
    _ data: Dataset, prior: SequencePrior?, context: ComputeContext, group: any Communicator, overlapsExchange: Bool
  ) throws -> Trainer {
    guard let start = start.take() else {
      return try Trainer(
        model: model, training: training, data: data, prior: prior, context: context, group: group,
        overlapsExchange: overlapsExchange)
    }
    return try Trainer(
      model: model, training: training, data: data, start: start, prior: prior, context: context, group: group,
      overlapsExchange: overlapsExchange)
  }
}

extension ModelConfiguration {
  /// Whether the autoencoder's path does not depend on the model's directory.
  fileprivate var hasAbsoluteAutoencoderPath: Bool { autoencoder?.hasPrefix("/") ?? false }
}

// MARK: - The tables of `dit train --help`

extension TrainingRequest {
  /// The keys of "training": name (default), meaning.
  static var keyTable: String {
    TrainingConfiguration.keys.map { "  \($0.name) (\($0.defaultText))\n" + wrapped($0.meaning, indent: 6) }
      .joined(separator: "\n")
  }

  /// `text` in lines that a terminal of 80 columns shows as they are.
  private static func wrapped(_ text: String, indent: Int) -> String {
    var lines = [""]
    for word in text.split(separator: " ") {
      let line = lines[lines.count - 1]
      if !line.isEmpty, indent + line.count + 1 + word.count > 78 {
        lines.append(String(word))
      } else {
        lines[lines.count - 1] = line.isEmpty ? String(word) : "\(line) \(word)"
      }
    }
    return lines.map { String(repeating: " ", count: indent) + $0 }.joined(separator: "\n")
  }

  /// What the configuration of the shipped digits model says.
  static var digitsTable: String {
    guard let path = try? ShippedResources.DataSet.digits.training(), let json = try? JSONValue(contentsOf: path) else {
      return "  (the file that ships with the tool is missing)"
    }
    return json.text.indented
  }

  /// The keys of "model".
  static var modelTable: String {
    (ModelConfiguration(published: "DiT-S/2")?.json.text ?? "").indented
  }
}

extension String {
  fileprivate var indented: String {
    split(separator: "\n").map { "  \($0)" }.joined(separator: "\n")
  }
}
