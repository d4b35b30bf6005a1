import DiTAutoencoder
import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

// config.json. Keys of what this version does not do are accepted with the one value that it does, and refused by name
// with any other.

extension ModelConfiguration {
  /// The file at `path`.
  ///
  /// - Throws: `DiTError` when it cannot be read, for an unknown key, a key that stands twice, a value of another type
  ///   or out of range, and parts that contradict each other.
  public init(contentsOf path: String) throws {
    try self.init(reading: JSONObjectReader(contentsOf: path))
  }

  /// The same keys as a section of another file. Finishes the reader.
  ///
  /// - Throws: `DiTError`.
  public init(reading reader: JSONObjectReader) throws(DiTError) {
    self = try CheckedConfiguration(reading: reader).model
  }

  /// The keys, each by itself: whether they agree is not checked. Finishes the reader.
  fileprivate init(unchecked reader: JSONObjectReader) throws(DiTError) {
    var reader = reader
    try reader.require("model_type", is: "dit")
    let family = try reader.word("family", ModelFamily.self) ?? .dit
    var network = try DiTConfiguration(reading: &reader, defaults: family.network())
    if let attention = try reader.object("attention") {
      network.attention = try AttentionConfiguration(reading: attention)
    }
    let diffusionSection = try reader.object("diffusion")
    let samplingSection = try reader.object("sampling")
    let schedulerSection = try reader.object(Self.schedulerKey)
    let classNames = try reader.strings("class_names")
    let autoencoder = try reader.string("vae")
    let statistics = try LatentStatistics(reading: &reader, "latent_statistics")
    try reader.finish()

    let scheduler = try schedulerSection.map {
      (section) throws(DiTError) in try DiffusersScheduler(reading: section)
    }
    self.init(network: network, classNames: classNames, family: family)
    self.autoencoder = autoencoder
    latentStatistics = statistics
    diffusersScheduler = scheduler
    if let diffusionSection {
      diffusion = try DiffusionConfiguration(reading: diffusionSection, defaults: diffusion)
    } else if let scheduler {
      do throws(DiTError) {
        diffusion = try scheduler.diffusion(diffusion.variance)
      } catch {
        throw reader.attributing(error, to: "\(Self.schedulerKey).\(error.schedulerKey ?? error.name)")
      }
    }
    sampling = family.sampling(network) ?? .standard(network, diffusion, scheduler)
    if let samplingSection { sampling = try SamplingConfiguration(reading: samplingSection, defaults: sampling) }
  }

  /// Every key in a fixed order, those at their defaults included.
  public var json: JSONValue {
    let n = network
    var members: [JSONMember] = [
      JSONMember("model_type", .string("dit")),
      JSONMember("input_size", .array([.integer(n.inputHeight), .integer(n.inputWidth)])),
      JSONMember("patch_size", .integer(n.patchSize)), JSONMember("in_channels", .integer(n.inChannels)),
      JSONMember("hidden_size", .integer(n.hiddenSize)), JSONMember("depth", .integer(n.depth)),
      JSONMember("num_heads", .integer(n.numHeads)), JSONMember("mlp_ratio", .real(n.mlpRatio)),
      JSONMember("num_classes", .integer(n.numClasses)),
      JSONMember("class_dropout_prob", .real(n.classDropoutProb)), JSONMember("learn_sigma", .bool(n.learnSigma)),
      JSONMember("position", .string(n.position.rawValue)),
      JSONMember("time_frequencies", .string(n.timeFrequencies.rawValue)),
      JSONMember("conditioning", .string(n.conditioning.rawValue)), JSONMember("attention", n.attention.json),
      JSONMember("diffusion", diffusion.json(beside: family.diffusion(variance: diffusion.variance))),
      JSONMember("sampling", sampling.json(beside: family.sampling(n))),
    ]
    if n.norm2Epsilon != DiTConfiguration.publishedEpsilon {
      members.append(JSONMember("norm2_eps", .number(n.norm2Epsilon)))
    }
    if family != .dit { members.insert(JSONMember("family", .string(family.rawValue)), at: 1) }
    members += n.partMembers(beside: family.network())
    if n.embedders != .shared { members.append(JSONMember("embedders", .string(n.embedders.rawValue))) }
    if let diffusersScheduler { members.append(JSONMember(Self.schedulerKey, diffusersScheduler.json)) }
    if let sequence = n.sequence { members.append(sequence.member) }
    if let classNames { members.append(JSONMember("class_names", .array(classNames.map { .string($0) }))) }
    if let latentStatistics { members.append(JSONMember("latent_statistics", latentStatistics.json)) }
    if let autoencoder { members.append(JSONMember("vae", .string(autoencoder))) }
    return .object(members)
  }

  /// Writes config.json at `path`, atomically. The file holds no path and no time.
  ///
  /// - Throws: `DiTError`.
  public func write(to path: String) throws {
    try AtomicFile.write(json.text, to: path)
  }
}

extension CheckedConfiguration {
  /// The keys of a config.json or of a section of another file. Finishes the reader.
  init(reading reader: JSONObjectReader) throws(DiTError) {
    try self.init(ModelConfiguration(unchecked: reader), file: reader.file, path: reader.path)
  }
}

extension DiTConfiguration {
  /// The keys of config.json that are the network's, checked. Finishes the reader.
  init(reading reader: JSONObjectReader) throws(DiTError) {
    var reader = reader
    try self.init(reading: &reader, defaults: ModelFamily.dit.network())
    if let attention = try reader.object("attention") {
      self.attention = try AttentionConfiguration(reading: attention)
    }
    try reader.finish()
    do throws(DiTError) {
      try validate()
    } catch {
      throw reader.attributing(error, to: error.name)
    }
  }

  /// The keys of config.json that are the network's.
  var json: JSONValue {
    guard case .object(let members) = ModelConfiguration(network: self).json else { return .null }
    return .object(members.filter { !["model_type", "diffusion", "sampling"].contains($0.key) })
  }

  /// The sizes among config.json's keys; where they are left out those of `defaults`, a family's.
  fileprivate init(
    reading reader: inout JSONObjectReader, defaults: DiTConfiguration
  ) throws(DiTError) {
    self = defaults
    if let (height, width) = try reader.size("input_size") { (inputHeight, inputWidth) = (height, width) }
    // Ranges are for `validate`, which knows them all; here only what a value is.
    patchSize = try reader.integer("patch_size") ?? patchSize
    inChannels = try reader.integer("in_channels") ?? inChannels
    hiddenSize = try reader.integer("hidden_size") ?? hiddenSize
    depth = try reader.integer("depth") ?? depth
    numHeads = try reader.integer("num_heads") ?? numHeads
    mlpRatio = try reader.number("mlp_ratio") ?? mlpRatio
    numClasses = try reader.integer("num_classes") ?? numClasses
    classDropoutProb = try reader.number("class_dropout_prob") ?? classDropoutProb
    learnSigma = try reader.bool("learn_sigma") ?? learnSigma
    position = try reader.word("position") ?? position
    timeFrequencies = try reader.word("time_frequencies") ?? timeFrequencies
    conditioning = try reader.word("conditioning") ?? conditioning
    norm2Epsilon = try reader.number("norm2_eps") ?? norm2Epsilon
    embedders = try reader.word("embedders") ?? embedders
    sequence = try SequenceSource(reading: &reader)
    if reader.peek("patch_bottleneck") == .null { patchBottleneck = nil }
    if reader.peek("token_groups") == .null { tokenGroups = nil }
    for key in ["mlp_hidden", "patch_bottleneck", "token_groups"] { reader.remove(key, if: .null) }
    norm = try reader.word("norm") ?? norm
    mlp = try reader.word("mlp") ?? mlp
    mlpHidden = try reader.integer("mlp_hidden")
    qkNorm = try reader.bool("qk_norm") ?? qkNorm
    patchBottleneck = try reader.integer("patch_bottleneck") ?? patchBottleneck
    inContextTokens = try reader.integer("in_context_tokens") ?? inContextTokens
    inContextStart = try reader.integer("in_context_start") ?? inContextStart
    tokenGroups = try TokenGroups(reading: &reader) ?? tokenGroups
    residualGates = try reader.word("residual_gates") ?? residualGates
    bias = try Biases(reading: &reader, defaults: bias)
  }

  /// The keys of parts that are not those of `published`, a family's.
  fileprivate func partMembers(beside published: DiTConfiguration) -> [JSONMember] {
    let (own, other) = (allPartMembers, published.allPartMembers)
    return zip(own, other).filter { $0 != $1 }.map(\.0)
  }

  /// Every part's key, those at their defaults included, in a fixed order.
  private var allPartMembers: [JSONMember] {
    func optional(_ number: Int?) -> JSONValue { number.map { .integer($0) } ?? .null }
    let groups = tokenGroups.map { groups in
      JSONValue.object(groups.members.map { JSONMember($0.key, .integer($0.count)) })
    }
    return [
      JSONMember("norm", .string(norm.rawValue)), JSONMember("mlp", .string(mlp.rawValue)),
      JSONMember("mlp_hidden", optional(mlpHidden)), JSONMember("qk_norm", .bool(qkNorm)),
      JSONMember("patch_bottleneck", optional(patchBottleneck)),
      JSONMember("in_context_tokens", .integer(inContextTokens)),
      JSONMember("in_context_start", .integer(inContextStart)), JSONMember("token_groups", groups ?? .null),
      JSONMember("residual_gates", .string(residualGates.rawValue)), JSONMember("bias", bias.json),
    ]
  }
}

extension TokenGroups {
  /// `"token_groups": {"class": n, "omega": n, …}`; nil where it is left out or null.
  fileprivate init?(reading reader: inout JSONObjectReader) throws(DiTError) {
    guard var counts = try reader.object("token_groups") else { return nil }
    self.init(
      classes: try counts.integer("class") ?? 0, omega: try counts.integer("omega") ?? 0,
      tMin: try counts.integer("t_min") ?? 0, tMax: try counts.integer("t_max") ?? 0,
      time: try counts.integer("time") ?? 0)
    try counts.finish()
  }
}

extension Biases {
  /// `"bias": true`, false, or an object that names layers.
  fileprivate init(reading reader: inout JSONObjectReader, defaults: Biases) throws(DiTError) {
    self = defaults
    switch reader.peek("bias") {
    case nil: return
    case .bool?:
      let all = try reader.bool("bias") ?? true
      (qkv, proj, mlp) = (all, all, all)
      if all { patchBottleneck = true }
    case _?:
      guard var layers = try reader.object("bias") else { return }
      qkv = try layers.bool("qkv") ?? qkv
      proj = try layers.bool("proj") ?? proj
      mlp = try layers.bool("mlp") ?? mlp
      patchBottleneck = try layers.bool("patch_bottleneck") ?? patchBottleneck
      try layers.finish()
    }
  }

  fileprivate var json: JSONValue {
    .object([
      JSONMember("qkv", .bool(qkv)), JSONMember("proj", .bool(proj)), JSONMember("mlp", .bool(mlp)),
      JSONMember("patch_bottleneck", .bool(patchBottleneck)),
    ])
  }
}

extension JSONObjectReader {
  /// One number for a square, or [H, W].
  fileprivate mutating func size(_ key: String) throws(DiTError) -> (Int, Int)? {
    switch value(key) {
    case nil: return nil
    case .integer(let side)?: return (side, side)
    case .array(let sides)?:
      if sides.count == 2, case .integer(let height) = sides[0], case .integer(let width) = sides[1] {
        return (height, width)
      }
      throw failure(key, expected: "a number or [H, W]", found: JSONValue.array(sides).summary)
    case let other?: throw failure(key, expected: "a number or [H, W]", found: other.summary)
    }
  }
}

extension SequenceSource {
  fileprivate static let text = "text"
  fileprivate static let image = "context_image"

  /// `"text": {"length": n}` or `"context_image": {"input_size": [H, W]}`; nil where neither is there.
  fileprivate init?(reading reader: inout JSONObjectReader) throws(DiTError) {
    let (text, image) = (try reader.object(Self.text), try reader.object(Self.image))
    switch (text, image) {
    case (nil, nil): return nil
    case (_?, _?):
      throw reader.failure(
        Self.image, expected: "no \(Self.image) beside \(Self.text), as one sequence conditions a model", found: "both")
    case (var text?, nil):
      guard let length = try text.integer("length") else {
        throw text.failure("length", expected: "the most bytes that a text may have", found: "nothing")
      }
      try text.finish()
      self = .text(length: length)
    case (nil, var image?):
      guard let (height, width) = try image.size("input_size") else {
        throw image.failure("input_size", expected: "a number or [H, W]", found: "nothing")
      }
      try image.finish()
      self = .image(height: height, width: width)
    }
  }

  fileprivate var member: JSONMember {
    switch self {
    case .text(let length): JSONMember(Self.text, .object([JSONMember("length", .integer(length))]))
    case .image(let height, let width):
      JSONMember(
        Self.image, .object([JSONMember("input_size", .array([.integer(height), .integer(width)]))]))
    }
  }
}

extension DiffusionConfiguration {
  /// The keys of a `diffusion` section, beside the published DiT's.
  var json: JSONValue { json(beside: DiffusionConfiguration()) }

  /// A `diffusion` section. Finishes the reader.
  init(
    reading reader: JSONObjectReader, defaults: DiffusionConfiguration
  ) throws(DiTError) {
    var reader = reader
    self = defaults
    steps = try reader.integer("steps") ?? steps
    schedule = try reader.word("schedule") ?? schedule
    betaStart = try reader.number("beta_start") ?? betaStart
    betaEnd = try reader.number("beta_end") ?? betaEnd
    prediction = try reader.word("prediction") ?? prediction
    path = try reader.word("path") ?? path
    variance = try reader.word("variance") ?? variance
    networkTime = try reader.word("network_time") ?? networkTime
    reader.remove("loss_target", if: .null)
    lossTarget = try reader.word("loss_target") ?? lossTarget
    loss = try reader.word("loss") ?? loss
    timeDistribution = try TimeDistribution(reading: &reader, "time_distribution") ?? timeDistribution
    noiseScale = try reader.number("noise_scale") ?? noiseScale
    timeFloor = try reader.number("t_floor") ?? timeFloor
    try reader.finish()
  }

  /// The keys of a β path, and of `flow`, which says its path itself, are those that such files have always had; what else
  /// differs from its default follows. A stated path is followed by all keys of its process.
  ///
  /// - Parameter standard: a family's.
  fileprivate func json(beside standard: DiffusionConfiguration) -> JSONValue {
    let members = [
      JSONMember("steps", .integer(steps)), JSONMember("schedule", .string(schedule.rawValue)),
      JSONMember("beta_start", .real(betaStart)), JSONMember("beta_end", .real(betaEnd)),
      JSONMember("prediction", .string(prediction.rawValue)), JSONMember("variance", .string(variance.rawValue)),
    ]
    let isStated = statesPath || path != standard.path && !prediction.impliesPath
    let terms = loss == .mse && standard.loss == .mse ? [] : [JSONMember("loss", .string(loss.rawValue))]
    return .object(
      (isStated
        ? [JSONMember("path", .string(path.rawValue))] + members + processMembers
        : members + zip(processMembers, standard.processMembers).filter { $0 != $1 }.map(\.0)) + terms)
  }

  private var processMembers: [JSONMember] {
    [
      JSONMember("network_time", .string(networkTime.rawValue)),
      JSONMember("loss_target", lossTarget.map { .string($0.rawValue) } ?? .null),
      JSONMember("time_distribution", timeDistribution.json), JSONMember("noise_scale", .real(noiseScale)),
      JSONMember("t_floor", .real(timeFloor)),
    ]
  }
}

extension JSONValue {
  fileprivate var isObject: Bool { if case .object = self { true } else { false } }
}

extension TimeDistribution {
  private static let uniformWord = "uniform"
  private static let logitNormalKey = "logit_normal"

  /// `"uniform"` or `{"logit_normal": [m, d]}`; nil where the key is left out.
  fileprivate init?(reading reader: inout JSONObjectReader, _ key: String) throws(DiTError) {
    switch reader.value(key) {
    case nil: return nil
    case .string(Self.uniformWord)?: self = .uniform
    case let value? where value.isObject:
      var section = try JSONObjectReader(value, file: reader.file, path: reader.dotted(key))
      guard let numbers = try section.numbers(Self.logitNormalKey), numbers.count == 2 else {
        throw section.failure(
          Self.logitNormalKey, expected: "[m, d], the mean and deviation of the time's logit", found: "another value")
      }
      try section.finish()
      self = .logitNormal(mean: numbers[0], deviation: numbers[1])
    case let other?:
      throw reader.failure(
        key, expected: "\"\(Self.uniformWord)\" or {\"\(Self.logitNormalKey)\": [m, d]}", found: other.summary)
    }
  }

  fileprivate var json: JSONValue {
    switch self {
    case .uniform: .string(Self.uniformWord)
    case .logitNormal(let mean, let deviation):
      .object([JSONMember(Self.logitNormalKey, .array([.real(mean), .real(deviation)]))])
    }
  }
}
