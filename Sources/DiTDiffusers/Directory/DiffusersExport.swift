import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTModel
import DiTTensor
import Foundation

/// A model as a diffusers pipeline: what is written, and what diffusers then computes.
///
/// transformer/ holds config.json and the weights under diffusers' names, with a copy of a shared embedder in every block;
/// in one file, or above 10 GB in several with an index, as diffusers writes them. scheduler/ holds the saved scheduler,
/// or one that says what the diffusion process and the sampling block do. vae/ is copied where there is one.
///
/// diffusers has keys for all that it can compute but one: its time frequencies divide by 127. A model whose own divide by
/// 128 is written as it is, as diffusers' conversion of the published weights does, and ``notes(written:context:)`` say so.
public struct DiffusersExport: Sendable {
  /// Where diffusers begins another file.
  static let shardBytes = 10_000_000_000

  private let model: Model
  private let weights: Weights
  private let vae: String?

  /// What is exported, but for its weights.
  package struct Model: Sendable {
    package var network: DiTConfiguration
    package var diffusion: DiffusionConfiguration
    /// The saved scheduler of the directory that the model came from; nil for another model.
    package var saved: DiffusersScheduler?
    /// The sampler and its steps by default, which say what scheduler is written where none is saved.
    package var sampler: SamplerName
    package var schedule: StepSchedule?
    package var classNames: [String]?

    package init(
      network: DiTConfiguration, diffusion: DiffusionConfiguration, saved: DiffusersScheduler?, sampler: SamplerName,
      schedule: StepSchedule?, classNames: [String]?
    ) {
      self.network = network
      self.diffusion = diffusion
      self.saved = saved
      self.sampler = sampler
      self.schedule = schedule
      self.classNames = classNames
    }
  }

  /// - Parameters:
  ///   - vae: the autoencoder's directory, if any.
  ///   - name: what errors call the model.
  /// - Precondition: `weights` belong to the model's network.
  /// - Throws: `DiTError` naming the key of config.json that diffusers cannot express.
  package init(_ model: Model, weights: Weights, vae: String?, name: String) throws(DiTError) {
    if let problem = model.network.diffusersProblem {
      throw DiTError(
        file: name, .key(problem.key), expected: "\(problem.expected), as diffusers' DiT has no other",
        found: problem.found)
    }
    guard model.diffusion.path == .beta else {
      throw DiTError(
        file: name, .key("diffusion.path"), expected: "beta, as diffusers' DiT pipeline has no other",
        found: model.diffusion.path.rawValue)
    }
    guard model.diffusion.prediction.diffusersWord != nil else {
      throw DiTError(
        file: name, .key("diffusion.prediction"), expected: "epsilon, x0 or v, as diffusers' schedulers have no other",
        found: model.diffusion.prediction.rawValue)
    }
    try Self.checkPositions(weights, model.network, name)
    self.model = model
    self.weights = weights
    self.vae = vae
  }

  /// diffusers' DiT computes its position table and stores none: another one would be lost.
  private static func checkPositions(
    _ weights: Weights, _ network: DiTConfiguration, _ name: String
  ) throws(DiTError) {
    guard let table = weights.table.parameter(named: "pos_embed"), let stored = weights[table.name] else { return }
    let computed = MutableFloatSlice(zeros: table.count)
    table.initialize(computed, network, seed: 0, stream: 0)
    let (found, expected) = (stored.span, computed.span)
    var largest: Float = 0
    for i in 0..<table.count {
      let difference = abs(found[i] - expected[i])
      largest = difference.isNaN ? .infinity : max(largest, difference)
    }
    // bfloat16 may have rounded what lies in [−1, 1]
    guard largest <= 4e-3 else {
      throw DiTError(
        file: name, .tensor(table.name),
        expected: "the sine-cosine table, which diffusers' DiT computes, as it stores none",
        found: "another table, with a value that differs by \(largest)")
    }
  }

  /// The configuration that the directory has when it is read.
  private var network: DiTConfiguration {
    var network = model.network
    network.timeFrequencies = .diffusers
    network.classDropoutProb = 0.1
    return network
  }

  /// Notes for the user, one line each. For another division of the time frequencies both networks are run.
  ///
  /// - Parameters:
  ///   - written: the weights as they are read from what ``write(to:as:)`` wrote.
  ///   - context: where to run.
  public func notes(written: Weights, context: ComputeContext) -> [String] {
    var notes: [String] = []
    if model.network.timeFrequencies != .diffusers {
      let percent = deviation(written: written, context: context) * 100
      let text = percent < 0.1 ? String(format: "%.1e", percent) : String(format: "%.1f", percent)
      notes.append(
        """
        time_frequencies: diffusers divides by 127 and has no key for this model's 128, so it computes another function of \
        the same weights: its output differs from this model's by \(text) % of the largest output (measured: 4 random \
        inputs)
        """)
    }
    if model.network.numClasses != 1000 {
      notes.append(
        "num_classes: diffusers' DiTPipeline takes class 1000 for none, so that guidance above 1 fails there with "
          + "\(model.network.numClasses) classes")
    }
    if vae == nil {
      notes.append("vae: none is written; diffusers loads the pipeline with DiTPipeline.from_pretrained(…, vae=None)")
    }
    if model.saved == nil {
      notes.append("scheduler: \(scheduler.className), whose steps diffusers takes by its own rule")
    }
    return notes
  }

  /// max|diffusers' − ours| / max|ours| over four inputs, diffusers' network with the weights that were `written`; infinite
  /// where an output is not finite, as of weights beyond F16's range.
  package func deviation(written: Weights, context: ComputeContext) -> Double {
    let c = model.network
    var random = Philox(seed: 0)
    let images = random.normal(count: 4 * c.imageElements)
    let last = Float(model.diffusion.steps - 1)
    let times = [0, (last / 3).rounded(), (2 * last / 3).rounded(), last]
    let labels = [0, c.numClasses / 2, c.numClasses - 1, c.numClasses]
    var theirs = c
    theirs.timeFrequencies = .diffusers
    let outputs = [(c, weights), (theirs, written)].map { configuration, weights in
      let network = DiTNetwork(configuration, weights: weights, context: context, weightsAreFixed: true)
      let modulation = Modulation(
        configuration, rows: times.count,
        values: MutableFloatSlice(zeros: Modulation.elements(configuration, rows: times.count)))
      let output = MutableFloatSlice(zeros: times.count * configuration.outputElements)
      network.modulate(times: times, labels: labels, into: modulation)
      network.forward(
        output: output.mutableSpan, images: images.span, modulation: modulation, sequence: nil, samples: times.count,
        workspace: InferenceWorkspace(network, samples: times.count))
      return output.array
    }
    guard outputs.allSatisfy({ $0.allSatisfy(\.isFinite) }) else { return .infinity }
    let largest = outputs[0].reduce(0) { max($0, abs($1)) }
    let difference = zip(outputs[0], outputs[1]).reduce(0) { max($0, abs($1.0 - $1.1)) }
    return largest > 0 ? Double(difference / largest) : Double(difference)
  }

  // MARK: Writing

  /// Writes the files into the directory `path`, which is there.
  ///
  /// - Parameters:
  ///   - path: the directory.
  ///   - dtype: F32, BF16 or F16.
  /// - Throws: `DiTError`.
  public func write(to path: String, as dtype: Dtype = .f32) throws {
    try write(to: path, as: dtype, shardBytes: Self.shardBytes)
  }

  package func write(to path: String, as dtype: Dtype, shardBytes: Int) throws {
    let transformer = Paths.join(path, DiffusersDirectory.transformerName)
    for directory in [transformer, Paths.join(path, "scheduler")] { try Directory.create(directory) }
    try writeWeights(to: transformer, as: dtype, shardBytes: shardBytes)
    try AtomicFile.write(
      network.diffusersJSON.text, to: Paths.join(transformer, DiffusersDirectory.configurationFile))
    try AtomicFile.write(
      scheduler.fileJSON.text, to: Paths.join(path, DiffusersDirectory.schedulerFile))
    if let vae { try Directory.copyFiles(of: vae, to: Paths.join(path, DiffusersDirectory.autoencoderName)) }
    try AtomicFile.write(index.text, to: Paths.join(path, DiffusersDirectory.indexFile))
  }

  private var index: JSONValue {
    func part(_ name: String) -> JSONValue { .array([.string("diffusers"), .string(name)]) }
    var members = [
      JSONMember("_class_name", .string("DiTPipeline")),
      JSONMember("_diffusers_version", .string(DiffusersDirectory.version)),
    ]
    if let names = model.classNames {
      members.append(
        JSONMember("id2label", .object(Self.labels(names))))
    }
    return .object(
      members + [
        JSONMember("scheduler", part(scheduler.className)),
        JSONMember("transformer", part(DiTConfiguration.diffusersClasses[0])),
        JSONMember("vae", vae == nil ? .array([.null, .null]) : part("AutoencoderKL")),
      ])
  }

  /// Of the classes that have a name, not just their number.
  private static func labels(_ names: [String]) -> [JSONMember] {
    names.enumerated().filter { "\($0.offset)" != $0.element }.map { JSONMember("\($0.offset)", .string($0.element)) }
  }

  /// The saved one, or one that says what config.json says.
  private var scheduler: DiffusersScheduler {
    if let saved = model.saved { return saved }
    let diffusion = model.diffusion
    let scale = Double(diffusion.steps) / 1000  // ours are stated for T = 1000
    var scheduler = DiffusersScheduler(
      className: model.sampler.diffusersClass ?? "DDIMScheduler", trainSteps: diffusion.steps,
      betaStart: diffusion.betaStart / scale, betaEnd: diffusion.betaEnd / scale,
      betaSchedule: diffusion.schedule.diffusersWord, predictionType: diffusion.prediction.diffusersWord ?? "epsilon")
    switch model.schedule {
    case .trailing: scheduler.timestepSpacing = "trailing"
    case .linspace: scheduler.timestepSpacing = "linspace"
    default: scheduler.timestepSpacing = "leading"
    }
    switch model.sampler {
    case .ddpm:
      scheduler.clipSample = false
      scheduler.varianceType = diffusion.variance == .fixedLarge ? "fixed_large" : "fixed_small"
    case .ddim: (scheduler.clipSample, scheduler.setAlphaToOne) = (false, true)
    case .pndm: (scheduler.skipPRKSteps, scheduler.setAlphaToOne) = (true, true)
    default: break
    }
    return scheduler
  }

  private func writeWeights(to directory: String, as dtype: Dtype, shardBytes: Int) throws {
    let slices = Dictionary(
      uniqueKeysWithValues: zip(weights.table.parameters, weights.slices).map { ($0.name, $1) })
    let sources = DiffusersNames.tensors(weights.table, depth: model.network.depth).compactMap { tensor in
      slices[tensor.source.name].map { slice in
        TensorSource(
          tensor.name, slice[tensor.part * tensor.count..<(tensor.part + 1) * tensor.count], shape: tensor.shape,
          as: dtype)
      }
    }
    var shards: [[TensorSource]] = [[]]
    var bytes = 0
    for source in sources {
      if bytes + source.byteCount > shardBytes, !shards[shards.count - 1].isEmpty {
        shards.append([])
        bytes = 0
      }
      shards[shards.count - 1].append(source)
      bytes += source.byteCount
    }
    let name = DiffusersDirectory.weightsName
    guard shards.count > 1 else {
      return try SafetensorsWriter.write(
        sources, to: Paths.join(directory, "\(name).safetensors"))
    }
    var map: [JSONMember] = []
    for (index, shard) in shards.enumerated() {
      let file = "\(name)-\(Self.digits(index + 1))-of-\(Self.digits(shards.count)).safetensors"
      try SafetensorsWriter.write(shard, to: Paths.join(directory, file))
      map += shard.map { JSONMember($0.name, .string(file)) }
    }
    let total = sources.reduce(0) { $0 + $1.byteCount }
    let json = JSONValue.object([
      JSONMember("metadata", .object([JSONMember("total_size", .integer(total))])),
      JSONMember("weight_map", .object(map.sorted { $0.key < $1.key })),
    ])
    try AtomicFile.write(json.text, to: Paths.join(directory, "\(name).safetensors.index.json"))
  }

  private static func digits(_ number: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, 5 - text.count)) + text
  }
}

extension DiffusersScheduler {
  /// scheduler_config.json.
  fileprivate var fileJSON: JSONValue {
    guard case .object(let members) = json else { return json }
    return .object(members + [JSONMember("_diffusers_version", .string(DiffusersDirectory.version))])
  }
}

extension Prediction {
  /// diffusers' `prediction_type`; nil where it has none.
  fileprivate var diffusersWord: String? {
    switch target {
    case .epsilon: "epsilon"
    case .x0: "sample"
    case .v: "v_prediction"
    case .mean, .velocity: nil
    }
  }
}

extension BetaSchedule {
  /// diffusers' `beta_schedule`.
  fileprivate var diffusersWord: String {
    switch self {
    case .linear: "linear"
    case .scaledLinear: "scaled_linear"
    case .cosine: "squaredcos_cap_v2"
    }
  }
}
