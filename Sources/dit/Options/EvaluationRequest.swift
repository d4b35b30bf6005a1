import DiTEngine

/// What `dit evaluate` is to measure, checked.
struct EvaluationRequest {
  private enum Measure: String, CaseIterable {
    case frechet, precision, density, copies
  }

  private let command: EvaluateCommand
  /// What was asked for by name; nil for all that can be had.
  private let measures: Set<Measure>?
  private let features: EvaluationOptions.Features

  /// - Throws: ``Failure`` (64).
  init(_ command: EvaluateCommand) throws(Failure) {
    self.command = command
    measures = try command.measures.map { list throws(Failure) in try Self.measures(list) }
    features = try Self.features(command.features ?? "pixels")
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
      ("--training", command.training != nil), ("--features", command.features != nil),
      ("--measures", command.measures != nil), ("--k", command.k != nil), ("--density-k", command.densityK != nil),
      ("--bootstrap", command.bootstrap > 0), ("--no-per-class", command.noPerClass), ("--json", command.json),
      ("--out", command.out != nil),
    ]
    if command.samples == nil, let (option, _) = isJudging.first(where: \.1) {
      throw .usage(option, expected: "--samples with it", found: "none")
    }
    if command.seed != nil, command.bootstrap == 0 {
      throw .usage("--seed", expected: "--bootstrap with it", found: "none")
    }
    let needed: [(String, Bool, Measure)] = [
      ("--training", command.training != nil, .copies), ("--k", command.k != nil, .precision),
      ("--density-k", command.densityK != nil, .density), ("--bootstrap", command.bootstrap > 0, .frechet),
    ]
    for (option, isGiven, measure) in needed where isGiven && measures?.contains(measure) == false {
      throw .usage(option, expected: "\(measure.rawValue) among --measures", found: command.measures ?? "")
    }
  }

  /// The options for these inputs: measures that they do not allow are left out, unless they were named.
  ///
  /// - Throws: ``Failure`` (64).
  func options(for inputs: EvaluationInputs) throws(Failure) -> EvaluationOptions {
    let samples = inputs.samples?.set
    let reference = inputs.reference.set
    let possible: [(Measure, Bool)] = [
      (.frechet, true), (.precision, samples != nil && reference != nil),
      (.density, samples != nil && reference != nil),
      (.copies, samples != nil && (inputs.training ?? reference) != nil),
    ]
    for (measure, isPossible) in possible where !isPossible && measures?.contains(measure) == true {
      throw .usage("--measures", expected: "frechet alone, as statistics are no samples", found: measure.rawValue)
    }
    if command.bootstrap > 0, samples == nil, inputs.samples != nil {
      throw .usage("--bootstrap", expected: "samples to resample", found: "statistics")
    }
    let chosen = Set(possible.filter(\.1).map(\.0)).intersection(measures ?? Set(Measure.allCases))
    var options = EvaluationOptions()
    options.features = features
    options.frechet = chosen.contains(.frechet)
    options.precisionNeighbors = chosen.contains(.precision) ? command.k ?? 3 : nil
    options.densityNeighbors = chosen.contains(.density) ? command.densityK ?? 5 : nil
    options.copies = chosen.contains(.copies)
    options.perClass = !command.noPerClass
    options.resamples = command.bootstrap
    options.seed = UInt64(command.seed ?? 0)
    return options
  }

  private static func measures(_ list: String) throws(Failure) -> Set<Measure> {
    var measures: Set<Measure> = []
    for word in list.split(separator: ",", omittingEmptySubsequences: false) {
      guard let measure = Measure(rawValue: String(word)) else {
        throw .usage(
          "--measures", expected: "a list of \(Measure.allCases.map(\.rawValue).joined(separator: ", "))",
          found: "'\(word)'")
      }
      measures.insert(measure)
    }
    return measures
  }

  private static func features(_ name: String) throws(Failure) -> EvaluationOptions.Features {
    if name == "pixels" { return .pixels }
    let largest = EvaluationOptions.largestComponents
    guard name.hasPrefix("pca:"), let count = Int(name.dropFirst(4)), 1...largest ~= count else {
      throw .usage("--features", expected: "pixels, or pca:1 to pca:\(largest)", found: name)
    }
    return .principal(count)
  }
}
