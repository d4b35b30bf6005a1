import DiTEngine

/// What `dit evaluate` is to measure, checked.
struct EvaluationRequest {
  private let command: EvaluateCommand
  /// What was asked for by name; nil for all that can be had.
  private let measures: Set<EvaluationMeasure>?
  private let features: EvaluationOptions.Features
  /// The file of a network whose features are measured; nil for pixels and their components.
  let network: String?
  /// `--resize`; nil for the network's own.
  let resize: PictureResize?

  /// - Throws: ``Failure`` (64).
  init(_ command: EvaluateCommand) throws(Failure) {
    self.command = command
    measures = try command.measures.map { list throws(Failure) in try Self.measures(list) }
    (features, network) = try Self.features(command.features ?? "pixels")
    resize = try command.resize.map { name throws(Failure) in
      guard let resize = PictureResize(rawValue: name) else {
        throw .usage(
          "--resize", expected: PictureResize.allCases.map(\.rawValue).joined(separator: ", "), found: name)
      }
      return resize
    }
    for (option, k) in [("--k", command.k), ("--density-k", command.densityK)] {
      if let k, !(1...1000 ~= k) { throw .usage(option, expected: "1 to 1000", found: "\(k)") }
    }
    guard 0...10_000 ~= command.bootstrap else {
      throw .usage("--bootstrap", expected: "0 to 10000", found: "\(command.bootstrap)")
    }
    if let seed = command.seed, seed < 0 { throw .usage("--seed", expected: "0 or more", found: "\(seed)") }
    guard command.samples != nil || command.saveStatistics != nil else {
      throw .usage("--samples", expected: "a set to judge, or --save-statistics", found: "neither")
    }
    try checkCombinations()
  }

  /// Options that would do nothing.
  private func checkCombinations() throws(Failure) {
    let isJudging: [(String, Bool)] = [
      ("--training", command.training != nil),
      ("--save-features", command.saveFeatures != nil), ("--measures", command.measures != nil),
      ("--k", command.k != nil), ("--density-k", command.densityK != nil),
      ("--bootstrap", command.bootstrap > 0), ("--no-per-class", command.noPerClass), ("--json", command.json),
      ("--out", command.out != nil),
    ]
    if command.samples == nil, let (option, _) = isJudging.first(where: \.1) {
      throw .usage(option, expected: "--samples with it", found: "none")
    }
    if command.samples == nil, command.features != nil, network == nil {
      throw .usage("--features", expected: "--samples with it", found: "none")
    }
    if command.resize != nil, network == nil {
      throw .usage("--resize", expected: "a network's file as --features", found: command.features ?? "pixels")
    }
    if command.saveFeatures != nil, network == nil {
      throw .usage("--save-features", expected: "a network's file as --features", found: command.features ?? "pixels")
    }
    for measure in [EvaluationMeasure.spatial, .inception] where network == nil && measures?.contains(measure) == true {
      throw .usage(
        "--measures", expected: "a network's file as --features, for \(measure.rawValue)",
        found: command.features ?? "pixels")
    }
    if command.seed != nil, command.bootstrap == 0 {
      throw .usage("--seed", expected: "--bootstrap with it", found: "none")
    }
    let needed: [(String, Bool, EvaluationMeasure)] = [
      ("--training", command.training != nil, .copies), ("--k", command.k != nil, .precision),
      ("--density-k", command.densityK != nil, .density), ("--bootstrap", command.bootstrap > 0, .frechet),
    ]
    for (option, isGiven, measure) in needed where isGiven && measures?.contains(measure) == false {
      throw .usage(option, expected: "\(measure.rawValue) among --measures", found: command.measures ?? "")
    }
  }

  /// The options for these inputs: measures that they do not allow are left out, unless they were named.
  ///
  /// - Parameter network: the network of ``network``.
  /// - Throws: ``Failure`` (64).
  func options(for inputs: EvaluationInputs, _ network: FeatureNetwork?) throws(Failure) -> EvaluationOptions {
    let samples = inputs.samples?.set
    let reference = inputs.reference.set
    let isSpatial = network?.count(of: .spatial) != nil
    func hasSpatial(_ input: EvaluationInput?) -> Bool { input?.spatial != nil || input?.set != nil }
    // In features the sets need not have one size, but in pixels.
    let compared = inputs.training ?? reference
    let possible: [(EvaluationMeasure, Bool, String)] = [
      (.frechet, true, ""), (.precision, samples != nil && reference != nil, "samples, which statistics are not"),
      (.density, samples != nil && reference != nil, "samples, which statistics are not"),
      (
        .spatial, isSpatial && hasSpatial(inputs.samples) && hasSpatial(inputs.reference),
        "Inception's spatial features, or their statistics mu_s and sigma_s, of both sets"
      ),
      (
        .inception, samples != nil && network?.kind == .inceptionV3 && network?.count(of: .logits) != nil,
        "Inception with its classifier, fc, and samples"
      ),
      (
        .copies, samples != nil && compared != nil && compared?.shape == samples?.shape,
        "samples of the size of those that copies are sought in"
      ),
    ]
    for (measure, isPossible, needed) in possible where !isPossible && measures?.contains(measure) == true {
      throw .usage("--measures", expected: needed, found: measure.rawValue)
    }
    if command.bootstrap > 0, samples == nil, inputs.samples != nil {
      throw .usage("--bootstrap", expected: "samples to resample", found: "statistics")
    }
    if command.saveFeatures != nil, samples == nil {
      throw .usage(
        "--save-features", expected: "samples, which statistics are not", found: inputs.samples?.name ?? "none")
    }
    if let training = inputs.training, samples == nil || training.shape != samples?.shape {
      throw .usage(
        "--training", expected: "samples of one shape to seek copies among",
        found: "\(training.shape) for \(samples.map { "\($0.shape)" } ?? "statistics")")
    }
    var usual = Set(EvaluationMeasure.allCases)
    // Pictures that are larger than memory would be decoded over and over.
    if network != nil, command.training == nil { usual.remove(.copies) }
    let chosen = Set(possible.filter(\.1).map(\.0)).intersection(measures ?? usual)
    var options = EvaluationOptions(measures: chosen)
    options.features = features
    if chosen.contains(.precision), let k = command.k { options.precisionNeighbors = k }
    if chosen.contains(.density), let k = command.densityK { options.densityNeighbors = k }
    options.perClass = !command.noPerClass
    options.resamples = command.bootstrap
    options.seed = UInt64(command.seed ?? 0)
    return options
  }

  private static func measures(_ list: String) throws(Failure) -> Set<EvaluationMeasure> {
    guard let measures = EvaluationMeasure.list(list) else {
      throw .usage(
        "--measures", expected: "a list of \(EvaluationMeasure.allCases.map(\.rawValue).joined(separator: ", "))",
        found: list)
    }
    return Set(measures)
  }

  static func features(_ name: String) throws(Failure) -> (EvaluationOptions.Features, network: String?) {
    if name == "pixels" { return (.pixels, nil) }
    let largest = EvaluationOptions.largestComponents
    if !name.hasPrefix("pca:"), name.contains(where: { $0 == "." || $0 == "/" }) { return (.pixels, name) }
    guard name.hasPrefix("pca:"), let count = Int(name.dropFirst(4)), 1...largest ~= count else {
      throw .usage("--features", expected: "pixels, pca:1 to pca:\(largest), or a network's file", found: name)
    }
    return (.principal(count), nil)
  }
}
