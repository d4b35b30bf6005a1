import DiTDiffusion
import DiTModel
import DiTTensor

extension DiT {
  /// What config.json says about sampling, with seed 0.
  public var samplingDefaults: SamplingOptions {
    SamplingOptions(sampler: configuration.sampling.sampler, guidance: configuration.sampling.guidance)
  }

  /// The steps that a sampler takes on this model: those of the saved scheduler, where it comes from a diffusers directory.
  ///
  /// - Throws: `DiffusionError`, as ``Sampler/process(on:saved:)``; also when the sampler does not tell the network what it is
  ///   told.
  public func process(_ sampler: Sampler) throws(DiffusionError) -> any ReverseProcess {
    try configuration.network.check(sampler.name)
    return try sampler.process(on: schedule, saved: configuration.diffusersScheduler)
  }

  /// The network's time of each step of a sampler; of `dopri5` of the parts of the way after which it reports.
  ///
  /// - Throws: `DiffusionError`, as ``process(_:)``.
  public func stepTimes(_ sampler: Sampler) throws(DiffusionError) -> [NetworkTime] {
    try configuration.network.check(sampler.name)
    return try sampler.stepTimes(on: schedule, saved: configuration.diffusersScheduler)
  }

  private func method(_ sampler: Sampler) throws(DiffusionError) -> SamplingMethod {
    try configuration.network.check(sampler.name)
    return try sampler.method(on: schedule, saved: configuration.diffusersScheduler)
  }

  /// Images of the given classes, one each.
  ///
  /// Image n depends on (seed, n), its class and the options, not on the other images; with ``RandomStream/torch`` also on
  /// how many there are.
  /// - Parameters:
  ///   - classes: 0…`num_classes`−1.
  ///   - sequence: a text or another image for each, for a model that takes them; nil are empty ones.
  ///   - start: noise to start from, (N, C, H, W); nil draws it; later noise is the same either way.
  ///   - progress: called after each step; false stops.
  /// - Throws: ``InputError`` (classes, `noise`), `DiffusionError` (steps, schedule, η, shift, tolerance, guidance), `OverflowError` when the
  ///   samples are no longer finite after a step, what `progress` throws.
  public func sample(
    classes: [Int], sequence: ConditioningSequence? = nil, options: SamplingOptions, start: Tensor? = nil,
    progress: (SamplingProgress) throws -> Bool = { _ in true }
  ) throws -> Samples {
    let c = configuration.network
    guard c.numClasses > 0 else {
      throw InputError("classes", expected: "none, as the model is unconditional", found: "\(classes.count)")
    }
    for label in classes where !(0..<c.numClasses ~= label) {
      throw InputError("classes", expected: "0…\(c.numClasses - 1)", found: "\(label)")
    }
    let method = try method(options.sampler)
    return try run(
      method, count: classes.count, labels: classes, sequence: sequence, options: options, start: start,
      progress: progress)
  }

  /// `count` images of a model without classes, or of a conditional model's null class.
  ///
  /// - Parameters: as in ``sample(classes:sequence:options:start:progress:)``.
  /// - Throws: as that; also for a conditional model without a null class, and for guidance other than 1 where there is
  ///   neither class nor sequence.
  public func sample(
    count: Int, sequence: ConditioningSequence? = nil, options: SamplingOptions, start: Tensor? = nil,
    progress: (SamplingProgress) throws -> Bool = { _ in true }
  ) throws -> Samples {
    guard options.guidance.scale == 1 || sequence != nil || configuration.network.isToldGuidance else {
      throw DiffusionError("guidance", expected: "1 without a class or a prompt", found: "\(options.guidance.scale)")
    }
    let method = try method(options.sampler)
    return try run(
      method, count: count, labels: nullLabels(count), sequence: sequence, options: options, start: start,
      progress: progress)
  }

  /// Images of the given texts, one each; guidance and sampler are config.json's where nil.
  ///
  /// - Throws: as ``sample(count:sequence:options:start:progress:)``; `InputError` for a model without `text` and for a
  ///   text of more bytes than its length.
  public func sample(
    prompts: [String], guidance: Guidance? = nil, sampler: Sampler? = nil, seed: UInt64 = 0,
    progress: (SamplingProgress) throws -> Bool = { _ in true }
  ) throws -> Samples {
    let defaults = configuration.sampling
    let options = SamplingOptions(
      sampler: sampler ?? defaults.sampler, guidance: guidance ?? defaults.guidance, seed: seed)
    return try sample(count: prompts.count, sequence: .texts(prompts), options: options, progress: progress)
  }

  /// Images of the given classes, one each; guidance and sampler are config.json's where nil.
  public func sample(
    classes: [Int], guidance: Guidance? = nil, sampler: Sampler? = nil, seed: UInt64 = 0,
    progress: (SamplingProgress) throws -> Bool = { _ in true }
  ) throws -> Samples {
    let defaults = configuration.sampling
    let options = SamplingOptions(
      sampler: sampler ?? defaults.sampler, guidance: guidance ?? defaults.guidance, seed: seed)
    return try sample(classes: classes, options: options, progress: progress)
  }

  /// Sampling run backwards: images → the noise from which DDIM at η = 0 (on a linear path Euler) with the same options would
  /// make them.
  ///
  /// - Parameters:
  ///   - images: (N, C, H, W).
  ///   - classes: one per image, the null class allowed; nil is the null class, or an unconditional model.
  ///   - sequence: one per image, for a model that takes them; nil are empty ones.
  ///   - options: nil is config.json's steps and schedule without guidance. The seed is not used.
  /// - Throws: as ``sample(classes:options:start:progress:)``; also for another sampler than those, η other than 0, and a
  ///   network that is told guidance.
  public func invert(
    _ images: Tensor, classes: [Int]? = nil, sequence: ConditioningSequence? = nil, options: SamplingOptions? = nil,
    progress: (SamplingProgress) throws -> Bool = { _ in true }
  ) throws -> Samples {
    try configuration.network.checkTimeAlone("to run backwards")
    let options = options ?? SamplingOptions(sampler: configuration.sampling.inversion(configuration.diffusion))
    let process = try options.sampler.inversion(on: schedule, saved: configuration.diffusersScheduler)
    let count = try configuration.network.checkImages(images, "images")
    let labels = try classes ?? nullLabels(count)
    try configuration.network.checkLabels(labels, count, "classes")
    return try run(
      .steps(process), count: count, labels: labels, sequence: sequence, options: options, start: images,
      isInversion: true,
      progress: progress)
  }

  private func nullLabels(_ count: Int) throws(InputError) -> [Int] {
    let c = configuration.network
    if c.numClasses == 0 { return [] }
    guard c.hasNullClass else {
      throw InputError("classes", expected: "classes, as the model has no null class", found: "none")
    }
    return [Int](repeating: c.numClasses, count: max(0, count))
  }

  private func run(
    _ method: SamplingMethod, count: Int, labels: [Int], sequence: ConditioningSequence?,
    options: SamplingOptions, start: Tensor?, isInversion: Bool = false,
    progress: (SamplingProgress) throws -> Bool
  ) throws -> Samples {
    let c = configuration.network
    guard count > 0 else { throw InputError("count", expected: "at least one image", found: "\(count)") }
    if let batch = options.batch, batch < 1 {
      throw InputError("batch", expected: "at least 1", found: "\(batch)")
    }
    try options.guidance.validate(c, schedule.process)
    if let start {
      guard start.shape == c.imageShape(count) else {
        throw InputError("noise", expected: "shape \(c.imageShape(count))", found: "\(start.shape)")
      }
      try start.checkFinite("noise")
    }
    let run = SamplingRun(
      self, method, count: count, labels: labels, sequence: try c.input(sequence, samples: count), options: options,
      start: start, isInversion: isInversion)
    return try run.finish(progress)
  }
}
