import DiTEvaluation
import DiTKernels
import Testing

@Suite("Confidence intervals of the Fréchet distance by resampling") struct BootstrapTests {
  private func bootstrap(_ samples: SampleSet, _ reference: SampleSet, resamples: Int, seed: UInt64) throws
    -> Evaluation
  {
    try evaluate(samples, reference) {
      ($0.precisionNeighbors, $0.densityNeighbors, $0.copies, $0.perClass) = (nil, nil, false, false)
      ($0.resamples, $0.seed) = (resamples, seed)
    }
  }

  /// Each value is the distance of the set in which samples stand as often as they were drawn.
  @Test(
    "Each bootstrap value is the Fréchet distance of the set with the samples drawn that often",
    arguments: ["regular", "singular"])
  func valuesAreThoseOfResampledSets(_ name: String) throws {
    let (samples, reference) = try Oracle.pair(name)
    let found = try #require(try bootstrap(samples, reference, resamples: 4, seed: 9).bootstrap)
    for (resample, value) in found.values.enumerated() {
      let counts = Bootstrap.counts(of: samples.count, seed: 9, resample: resample)
      #expect(counts.reduce(0, +) == samples.count && counts.contains(0) && counts.contains { $0 > 1 })
      let drawn = samples.subset(counts.indices.flatMap { Array(repeating: $0, count: counts[$0]) })
      let expected = try bootstrap(drawn, reference, resamples: 0, seed: 0).frechet
      #expect(agrees(value, expected?.value ?? .nan, 1e-9), "\(resample)")
    }
  }

  @Test("The interval encloses the distance, follows numpy's quantiles and depends on the seed alone")
  func intervalAndSeeds() throws {
    let (samples, reference) = try Oracle.pair("regular")
    let found = try bootstrap(samples, reference, resamples: 60, seed: 1)
    let interval = try #require(found.bootstrap)
    let distance = try #require(found.frechet?.value)
    #expect(interval.low < distance && distance < interval.high)
    // The resamples' own quantiles, numpy's rule, moved by what their mean is above the distance.
    let sorted = interval.values.sorted()
    let expected = sorted[1] + 0.475 * (sorted[2] - sorted[1])  // 0.025 · 59 = 1.475
    #expect(agrees(interval.low, distance + expected - interval.mean))
    #expect(interval.mean > distance, "a resample is farther")
    let squares = interval.values.reduce(0) { $0 + ($1 - interval.mean) * ($1 - interval.mean) }
    #expect(agrees(interval.standardError, (squares / 59).squareRoot()))
    #expect(try bootstrap(samples, reference, resamples: 60, seed: 1) == found)
    #expect(try bootstrap(samples, reference, resamples: 60, seed: 2).bootstrap?.values != interval.values)
    // The first resamples do not depend on how many follow.
    let few = try bootstrap(samples, reference, resamples: 3, seed: 1)
    #expect(few.bootstrap?.values == Array(interval.values.prefix(3)))
  }
}
