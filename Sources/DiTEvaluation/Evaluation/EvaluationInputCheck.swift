import DiTTensor

/// Whether sets can be compared as options ask.
struct EvaluationInputCheck {
  let samples, reference: EvaluationInput
  let training: SampleSet?
  /// Of a network, whose pictures may be of any sizes.
  let isInFeatures: Bool
  let options: EvaluationOptions

  func callAsFunction() throws(DiTError) {
    guard isInFeatures || samples.depth == reference.depth else {
      throw DiTError(
        set: samples.name, expected: "samples of \(extents(reference)), as \(reference.name) has",
        found: extents(samples))
    }
    if !isInFeatures || (options.copies && training == nil), let a = samples.set, let b = reference.set {
      try checkShapes(a, b)
    }
    if options.copies, let training, let samples = samples.set { try checkShapes(training, samples) }
    let neighborhoods = Neighborhoods(options)
    for set in [samples.set, reference.set].compactMap(\.self) {
      try set.requireTwo()
      let needed = neighborhoods.needed
      guard neighborhoods.isEmpty || set.count >= needed else {
        throw DiTError(
          set: set.name, expected: "at least \(needed) samples for \(needed - 1) neighbors", found: "\(set.count)")
      }
    }
    if options.copies { try training?.requireTwo() }
    if case .principal(let count) = options.features, count > reference.depth {
      throw DiTError(
        set: reference.name, expected: "at least \(count) numbers a sample for \(count) principal components",
        found: "\(reference.depth)")
    }
  }

  private func checkShapes(_ a: SampleSet, _ b: SampleSet) throws(DiTError) {
    guard a.shape == b.shape else {
      throw DiTError(set: a.name, expected: "samples of \(b.shape), as \(b.name) has", found: "\(a.shape)")
    }
  }

  private func extents(_ input: EvaluationInput) -> String {
    input.set.map { "\($0.shape)" } ?? "\(input.depth) numbers"
  }
}
