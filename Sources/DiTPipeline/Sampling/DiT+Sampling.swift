import DiTDiffusion
import DiTModel
import DiTTensor

extension DiT {
  /// What config.json says about sampling, with seed 0: where a program's own options start from.
  ///
  ///     var options = model.samplingOptions
  ///     options.guidance.scale = 2
  public var samplingOptions: SamplingOptions {
    SamplingOptions(sampler: configuration.sampling.sampler, guidance: configuration.sampling.guidance)
  }

  /// The steps that a sampler takes on this model: those of the saved scheduler, where it comes from a diffusers directory.
  ///
  /// - Throws: `DiTError`, as ``Sampler/process(on:saved:)``; also when the sampler does not tell the network what it is
  ///   told.
  public func process(_ sampler: Sampler) throws(DiTError) -> any SamplingProcess {
    try configuration.network.check(sampler.name)
    return try resolved(sampler).process(on: schedule, saved: configuration.diffusersScheduler)
  }

  /// The network's time of each step of a sampler that is taken from a start; of `dopri5` of the parts of the way after which it
  /// reports.
  ///
  /// - Throws: `DiTError`, as ``process(_:)``.
  public func stepTimes(_ sampler: Sampler, start: Start = .noise) throws(DiTError) -> [NetworkTime] {
    try configuration.network.check(sampler.name)
    let times = try resolved(sampler).stepTimes(on: schedule, saved: configuration.diffusersScheduler)
    return times.suffix(start.taken(of: times.count))
  }

  /// A sampler that does not say which steps are kept keeps those that config.json says, as far as they do not count them.
  private func resolved(_ sampler: Sampler) -> Sampler {
    guard sampler.schedule == nil, configuration.diffusersScheduler == nil,
      let own = configuration.sampling.sampler.schedule
    else { return sampler }
    if case .custom = own { return sampler }
    var resolved = sampler
    resolved.schedule = own
    return resolved
  }

  private func method(_ sampler: Sampler) throws(DiTError) -> SamplingMethod {
    try configuration.network.check(sampler.name)
    return try resolved(sampler).method(on: schedule, saved: configuration.diffusersScheduler)
  }

  /// Images of a condition, one for each of what it gives.
  ///
  /// Image n depends on (seed, n), its own condition, start and mask, and the options, not on the other images; with
  /// ``RandomStream/torch`` also on how many there are.
  /// - Parameters:
  ///   - condition: classes, names, prompts or others, one for each image.
  ///   - options: nil are ``samplingOptions``, with guidance 1 where nothing is given to guide to.
  ///   - start: what the run begins with: noise, a given state or an image.
  ///   - inpainting: what of the images is given.
  ///   - progress: called after each step; false stops.
  /// - Throws: `DiTError` of an argument (`classes`, `noise`, `image`, `strength`, `mask`) or option (steps, schedule, η, shift,
  ///   tolerance, guidance), or when the samples are no longer finite after a step, what `progress` throws.
  public func sample(
    _ condition: Condition, options: SamplingOptions? = nil, start: Start = .noise, inpainting: Inpainting? = nil,
    progress: (SamplingProgress) throws -> Bool = { _ in true }
  ) throws -> Samples {
    let asked = try check(condition, options, start, inpainting)
    if asked.taken == 0 { return asked.untouched(inpainting) }
    let run = SamplingRun(
      self, asked.method, count: asked.count, labels: asked.labels, sequence: asked.sequence, options: asked.options,
      start: start, inpainting: inpainting)
    return try run.finish(progress)
  }

  /// Throws where evaluations, or their unconditional halves, cannot be taken from earlier ones as the options ask.
  private func checkFewerEvaluations(_ options: SamplingOptions, _ method: SamplingMethod) throws(DiTError) {
    try method.check(options.caching)
    let every = options.guidance.every
    guard every > 1 else { return }
    func failure(_ expected: String) -> DiTError {
      DiTError(option: "guidance_every", expected: expected, found: "\(every)")
    }
    if case .adaptive = method { throw failure("1 with a sampler whose steps are not known beforehand") }
    if configuration.network.isToldGuidance { throw failure("1, as the network is told guidance") }
    if options.caching != nil { throw failure("1 with a cache") }
  }

  /// Bytes that ``SamplingOptions/caching`` takes while `count` images are sampled.
  ///
  /// - Throws: `DiTError`, as ``sample(_:options:start:inpainting:progress:)``.
  public func cacheByteCount(_ options: SamplingOptions, count: Int) throws(DiTError) -> Int {
    guard let caching = options.caching else { return 0 }
    let (c, method) = (configuration.network, try method(options.sampler))
    try checkFewerEvaluations(options, method)
    let guidance = options.guidance.resolved(c, schedule.process, configuration.sampling.guidance)
    let passes = method.passes(c, guidance)
    let batch = min(count, options.batch ?? BatchPlan.inference(c, passes: passes, caching))
    return caching.byteCount(c, samples: passes * batch)
  }

  /// What a call asks for, as this model can do it.
  struct Asked {
    let method: SamplingMethod
    let count: Int
    /// One per image; empty for an unconditional model.
    let labels: [Int]
    let sequence: SequenceInput?
    let options: SamplingOptions
    let start: Start
    /// How many steps are taken.
    let taken: Int

    /// What is left where none is.
    func untouched(_ inpainting: Inpainting?) -> Samples {
      guard case .image(let images, _, _) = start else { preconditionFailure("no step, and no image to begin with") }
      var given = images.shape[0] == count ? images : images.repeated(count)
      if let inpainting { KnownPart.restore(&given, inpainting) }
      return Samples(images: given, labels: labels, isComplete: true)
    }
  }

  /// - Throws: as ``sample(_:options:start:inpainting:progress:)``.
  func check(
    _ condition: Condition, _ options: SamplingOptions?, _ start: Start, _ inpainting: Inpainting?
  ) throws -> Asked {
    let c = configuration.network
    let (classes, sequence) = (try condition.classes(of: configuration), condition.sequence)
    let areOwn = options == nil
    var options = options ?? samplingOptions
    if classes == nil, sequence == nil, !c.isToldGuidance {
      if areOwn { options.guidance.scale = 1 }
      guard options.guidance.scale == 1 else {
        throw DiTError(
          option: "guidance", expected: "1 without a class or a prompt", found: "\(options.guidance.scale)")
      }
    }
    if let classes {
      guard c.numClasses > 0 else {
        throw DiTError(argument: "classes", expected: "none, as the model is unconditional", found: "\(classes.count)")
      }
      try c.checkCount(classes.count, condition.count, "classes")
      for label in classes where !(0..<c.numClasses ~= label) {
        throw DiTError(argument: "classes", expected: "0…\(c.numClasses - 1)", found: "\(label)")
      }
    }
    let method = try method(options.sampler)
    if let inpainting {
      guard case .steps = method else {
        throw DiTError(
          option: "sampler", expected: "one whose steps are known beforehand, for a mask",
          found: options.sampler.name.rawValue)
      }
      try inpainting.check(c, count: condition.count)
    }
    return try check(
      method, count: condition.count, labels: classes ?? nullLabels(condition.count), sequence: sequence,
      options: options,
      start: start)
  }

  /// Sampling run backwards: images → the noise from which DDIM at η = 0 (on a linear path Euler) with the same options would
  /// make them.
  ///
  /// - Parameters:
  ///   - images: (N, C, H, W).
  ///   - classes: one per image, the null class allowed; nil is the null class, or an unconditional model.
  ///   - sequence: one per image, for a model that takes them; nil are empty ones.
  ///   - options: nil is config.json's steps and schedule without guidance. The seed is not used.
  ///   - progress: called after each step; false stops.
  /// - Throws: as ``sample(_:options:start:inpainting:progress:)``; also for another sampler than those, η other than 0, and a
  ///   network that is told guidance.
  public func invert(
    _ images: Tensor, classes: [Int]? = nil, sequence: ConditioningSequence? = nil, options: SamplingOptions? = nil,
    progress: (SamplingProgress) throws -> Bool = { _ in true }
  ) throws -> Samples {
    try configuration.network.checkTimeAlone("to run backwards")
    let options =
      options
      ?? SamplingOptions(
        sampler: configuration.sampling.inversion(configuration.diffusion), guidance: Guidance(scale: 1))
    let process = try resolved(options.sampler).inversion(on: schedule, saved: configuration.diffusersScheduler)
    let count = try configuration.network.checkImages(images, "images")
    let labels = try classes ?? nullLabels(count)
    try configuration.network.checkLabels(labels, count, "classes")
    let asked = try check(
      .inversion(process), count: count, labels: labels, sequence: sequence, options: options, start: .given(images))
    let run = SamplingRun(
      self, asked.method, count: count, labels: labels, sequence: asked.sequence, options: options, start: asked.start,
      inpainting: nil)
    return try run.finish(progress)
  }

  /// The null class for each image; none for an unconditional model.
  package func nullLabels(_ count: Int) throws(DiTError) -> [Int] {
    let c = configuration.network
    if c.numClasses == 0 { return [] }
    guard c.hasNullClass else {
      throw DiTError(argument: "classes", expected: "classes, as the model has no null class", found: "none")
    }
    return [Int](repeating: c.numClasses, count: max(0, count))
  }

  private func check(
    _ method: SamplingMethod, count: Int, labels: [Int], sequence: ConditioningSequence?, options: SamplingOptions,
    start: Start
  ) throws -> Asked {
    let c = configuration.network
    guard count > 0 else { throw DiTError(argument: "count", expected: "at least one image", found: "\(count)") }
    if let batch = options.batch, batch < 1 {
      throw DiTError(option: "batch", expected: "at least 1", found: "\(batch)")
    }
    guard options.random == .philox || options.share == .whole else {
      throw DiTError(
        option: "rng", expected: "philox for a share of the images, as torch draws all of them at once", found: "torch")
    }
    try options.guidance.validate(c, schedule.process)
    try checkFewerEvaluations(options, method)
    try start.check(c, count: count)
    return Asked(
      method: method, count: count, labels: labels, sequence: try c.input(sequence, samples: count), options: options,
      start: start, taken: start.taken(of: method.stepCount))
  }
}
