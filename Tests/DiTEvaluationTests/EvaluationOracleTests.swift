import DiTEvaluation
import DiTKernels
import Testing

/// Every figure against scipy and scikit-learn.
@Suite("Every figure against scipy and scikit-learn") struct OracleTests {
  /// What `sqrtm` is good to: rounding for a regular product of covariances, the root of rounding for a singular one.
  private static func tolerance(_ name: String) -> Double { ["regular", "bytes"].contains(name) ? 1e-10 : 1e-6 }

  @Test(
    "Fréchet distance, precision, recall, density, coverage and copies are scipy's and scikit-learn's",
    arguments: ["regular", "singular", "ties", "bytes"])
  func everyMeasure(_ name: String) throws {
    let (samples, reference) = try Oracle.pair(name)
    let found = try evaluate(samples, reference)
    let tolerance = Self.tolerance(name)
    let terms = try Oracle.values("\(name).frechet")
    #expect(agrees(found.frechet?.meanTerm, terms[0]))
    #expect(agrees(found.frechet?.covarianceTerm, terms[1], tolerance))
    #expect(agrees(found.frechet?.value, terms[0] + terms[1], tolerance))

    let shares = try Oracle.values("\(name).neighbourhoods")
    #expect(agrees(found.precisionRecall?.precision, shares[0]) && agrees(found.precisionRecall?.recall, shares[1]))
    #expect(agrees(found.densityCoverage?.density, shares[2]) && agrees(found.densityCoverage?.coverage, shares[3]))
    #expect(found.precisionRecall?.k == 3 && found.densityCoverage?.k == 5)

    let (nearest, own) = (try Oracle.values("\(name).nearest"), try Oracle.values("\(name).own"))
    let copies = try #require(found.copies)
    #expect(agrees(copies.meanDistance, nearest.reduce(0, +) / Double(nearest.count)))
    #expect(agrees(copies.ownMeanDistance, own.reduce(0, +) / Double(own.count)))
    #expect(copies.exact == nearest.count { $0 == 0 } && copies.referenceMeanDistance == nil)
  }

  @Test("Each class gets the Fréchet distance of its own samples", arguments: ["regular", "ties", "bytes"])
  func everyClass(_ name: String) throws {
    let (samples, reference) = try Oracle.pair(name)
    let classes = try #require(try evaluate(samples, reference).classes)
    let expected = try Oracle.values("\(name).class_frechet")
    #expect(classes.map(\.label) == [0, 1, 2])
    for (entry, distance) in zip(classes, expected) {
      #expect(agrees(entry.frechet?.value, distance, 1e-6), "class \(entry.label)")
      #expect(entry.samples == samples.labels?.count { $0 == entry.label })
      #expect(agrees(entry.meanDistance, entry.frechet?.meanTerm.squareRoot() ?? .nan))
      #expect(entry.precisionRecall != nil && entry.densityCoverage != nil)
    }
    #expect(try evaluate(samples, reference) { $0.perClass = false }.classes == nil)
  }

  /// Components are projected to Float.
  @Test(
    "The distance in principal components and the explained variance are the references'",
    arguments: ["regular", "singular", "ties", "bytes"])
  func principalComponents(_ name: String) throws {
    let (samples, reference) = try Oracle.pair(name)
    let found = try evaluate(samples, reference) { $0.features = .principal(4) }
    let expected = try Oracle.values("\(name).pca")
    #expect(agrees(found.frechet?.value, expected[0], 1e-6) && agrees(found.explainedVariance, expected[1], 1e-10))
    #expect(found.dimensions == 4)
    // Copies are sought among pixels all the same.
    #expect(try found.copies == evaluate(samples, reference).copies)
  }

  /// Fewer samples than pixels: `sqrtm` is good to 1e-7 only, 60 digits to all of ours.
  @Test("With singular covariances the distance agrees with 60-digit arithmetic to 1e-13")
  func singularCovariancesInManyDigits() throws {
    let (samples, reference) = try Oracle.pair("singular")
    let found = try evaluate(samples, reference)
    #expect(agrees(found.frechet?.covarianceTerm, try Oracle.values("singular.exact")[0], 1e-13))
    #expect(found.warnings.count == 2 && found.warnings[0].contains("14 samples of 20 numbers"))
    // Through the spectra of the covariances, as statistics from a file go, an eigenvalue below rounding is none.
    let context = try ComputeContext(threads: 2)
    let statistics = try [samples, reference].map { try EvaluationInput.statistics(Statistics(of: $0, on: context)) }
    let spectral = try Evaluation(of: statistics[0], against: statistics[1], on: context)
    #expect(agrees(spectral.frechet?.covarianceTerm, try Oracle.values("singular.exact")[0], 1e-9))
  }

  @Test("Exact copies are listed as pairs, with the first of equal training images")
  func copiesAreNamed() throws {
    let (samples, reference) = try Oracle.pair("ties")
    let copies = try #require(try evaluate(samples, reference).copies)
    let named = copies.exactPairs.map { [$0.sample, $0.training] }
    #expect(named.contains([5, 11]) && named.contains([20, 0]) && named.contains([21, 40]))
    #expect(copies.against == "ties.reference" && copies.exactPairs.count == copies.exact)
    // Image 7 stands twice: the first is named.
    let twice = try #require(try evaluate(reference, reference).copies)
    #expect(twice.exact == 60 && twice.exactPairs[30].sample == 30 && twice.exactPairs[30].training == 7)
    #expect(twice.medianRelative == 0)
  }
}
