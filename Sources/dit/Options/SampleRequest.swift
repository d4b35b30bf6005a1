import DiTEngine
import DiTPictures

/// What `dit sample` is to make: one class per image, and perhaps the noise to start from.
struct SampleRequest {
  /// One per image, class-major; nil for a model without classes, or a start whose labels are all the null class.
  let labels: [Int]?
  /// One per image, of `--prompt` or `--context`; nil where neither is given.
  let sequence: ConditioningSequence?
  /// The number of images.
  let count: Int
  /// So many successive images are of one class.
  let countPerClass: Int
  /// The given noise, (N, C, H, W), and its file.
  let start: (noise: Tensor, file: TensorFile)?

  init(
    labels: [Int]?, sequence: ConditioningSequence?, count: Int, countPerClass: Int,
    start: (noise: Tensor, file: TensorFile)?
  ) {
    (self.labels, self.sequence, self.count) = (labels, sequence, count)
    (self.countPerClass, self.start) = (countPerClass, start)
  }

  /// More images than this in one run are taken for a typing error.
  private static let largestCount = 1_000_000

  /// - Parameters:
  ///   - classes: `--classes`.
  ///   - count: `--count`, positive.
  ///   - noise: `--noise`.
  ///   - conditions: `--prompt` and `--context`.
  /// - Throws: ``Failure`` 64 for options that contradict each other or the model, 65 for a noise file that does not fit.
  init(
    classes: String?, count: Int?, noise: String?, conditions: ConditionOptions = ConditionOptions(),
    for model: ModelConfiguration
  ) throws {
    try conditions.validate(for: model)
    let context = try conditions.contextImages()
    let file = try noise.map { try TensorFile($0) }
    start = try file.map { (noise: try $0.images("noise"), file: $0) }
    if let file, file.contains("labels"), model.network.numClasses > 0 {
      for (option, given) in [("--classes", classes != nil), ("--count", count != nil)] where given {
        throw Failure.usage(option, expected: "none, as \(file.file.path) has labels", found: "one")
      }
      let labels = try file.integers("labels")
      let isNull = labels.allSatisfy { $0 == model.network.numClasses } && model.network.hasNullClass
      self.labels = isNull ? nil : labels
      (self.count, countPerClass) = (labels.count, 1)
    } else {
      let list = try Self.classes(classes, for: model)
      let given = start?.noise.shape[0] ?? context?.shape[0] ?? 1
      let perClass = count ?? max(1, given / (list?.count ?? 1))
      let total = perClass.multipliedReportingOverflow(by: list?.count ?? 1)
      guard !total.overflow, total.partialValue <= Self.largestCount else {
        throw Failure.usage("--count", expected: "at most \(Self.largestCount) images in all", found: "\(perClass)")
      }
      labels = list.map { $0.flatMap { [Int](repeating: $0, count: perClass) } }
      (self.count, countPerClass) = (total.partialValue, perClass)
    }
    if let start, start.noise.shape[0] != self.count {
      throw Failure.input(
        start.file.file.path, "tensor noise", expected: "noise of \(self.count) images",
        found: "shape \(start.noise.shape)")
    }
    sequence = try conditions.sequence(self.count, context)
  }

  /// With more classes than this, all of them is not a sensible default.
  private static let largestDefault = 100

  /// Nil for an unconditional model.
  private static func classes(_ list: String?, for model: ModelConfiguration) throws -> [Int]? {
    let count = model.network.numClasses
    guard count > 0 else {
      if list != nil {
        throw Failure.usage("--classes", expected: "none, as the model is unconditional", found: "a list")
      }
      return nil
    }
    if let list { return try LabelList.parse(list, for: model) }
    guard count <= largestDefault else {
      throw Failure.usage("--classes", expected: "a list of classes, as the model has \(count)", found: "none")
    }
    return Array(0..<count)
  }

  /// What the images are conditioned by.
  private var condition: Condition {
    switch sequence {
    case .texts(let texts): .prompts(texts, classes: labels)
    case .embeddings(let tokens): .embeddings(tokens, classes: labels)
    case .images(let images): .context(images, classes: labels)
    case nil: labels.map { .classes($0) } ?? .none(count: count)
    }
  }

  /// What the run starts from: the picture that is edited, the given noise, or noise that is drawn.
  func start(_ edit: PictureEdit?, strength: Double) -> Start {
    if let edit { return edit.start(strength: strength, noise: start?.noise) }
    return start.map { .given($0.noise) } ?? .noise
  }

  /// Runs the model.
  func samples(
    of dit: DiT, _ options: SamplingOptions, from begin: Start, inpainting: Inpainting?,
    progress: (SamplingProgress) -> Bool
  ) throws -> Samples {
    func run() throws -> Samples {
      try dit.sample(condition, options: options, start: begin, inpainting: inpainting, progress: progress)
    }
    guard let start else { return try run() }
    return try start.file.attributingErrors(["classes": "labels"], for: run)
  }
}

extension SampleRequest {
  /// The part of the images that a process makes.
  func part(_ share: ImageShare) -> SampleRequest {
    guard share != .whole else { return self }
    let numbers = share.numbers(of: count)
    return SampleRequest(
      labels: labels.map { labels in numbers.map { labels[$0] } }, sequence: sequence?.picking(numbers),
      count: numbers.count, countPerClass: 1, start: start.map { ($0.noise.picking(numbers), $0.file) })
  }
}
