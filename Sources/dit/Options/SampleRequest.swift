import DiffusionTransformers

/// What `dit sample` is to make: a class an image, and perhaps the noise to start from.
struct SampleRequest {
  /// One an image, class-major; nil for a model without classes, or a start whose labels are all the null class.
  let labels: [Int]?
  /// One an image, of `--prompt` or `--context`; nil where neither is given.
  let sequence: ConditioningSequence?
  /// The number of images.
  let count: Int
  /// So many successive images are of one class.
  let countPerClass: Int
  /// The given noise, (N, C, H, W), and its file.
  let start: (noise: Tensor, file: TensorFile)?

  /// More images than this in one run are a mistyped number.
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

  /// nil for an unconditional model.
  private static func classes(_ list: String?, for model: ModelConfiguration) throws(Failure) -> [Int]? {
    guard model.network.numClasses > 0 else {
      if list != nil { throw .usage("--classes", expected: "none, as the model is unconditional", found: "a list") }
      return nil
    }
    return if let list { try LabelList.parse(list, for: model) } else { try LabelList.all(of: model) }
  }

  /// Runs the model.
  func samples(
    of dit: DiT, _ options: SamplingOptions, progress: (SamplingProgress) -> Bool
  ) throws -> Samples {
    func run() throws -> Samples {
      if let labels {
        return try dit.sample(
          classes: labels, sequence: sequence, options: options, start: start?.noise, progress: progress)
      }
      return try dit.sample(
        count: count, sequence: sequence, options: options, start: start?.noise, progress: progress)
    }
    guard let start else { return try run() }
    return try start.file.attributingErrors(["classes": "labels"], for: run)
  }
}
