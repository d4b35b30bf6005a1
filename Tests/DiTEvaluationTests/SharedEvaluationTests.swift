import DiTDistributed
import DiTEvaluation
import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// Ranks are threads here; `Scripts/cluster-test` runs the same as processes under MPI.
@Suite("Evaluation by several processes")
struct SharedEvaluationTests {
  private static func context() throws -> ComputeContext { try ComputeContext(threads: 1, workers: 1) }

  /// Several blocks of neighbors, many ties, classes of which one has too few samples and one none in the reference.
  @Test("Every measure is what one process finds", arguments: [EvaluationOptions.Features.pixels, .principal(2)])
  func everyMeasure(_ features: EvaluationOptions.Features) throws {
    var draw = Draw(seed: 6)
    let (n, m, depth) = (2100, 2070, 3)
    func points(_ name: String, _ count: Int, classes: Int) -> SampleSet {
      let labels = (0..<count).map { $0 == 0 ? 90 : $0 % classes }
      return SampleSet(name, depth: depth, draw.normal(count * depth).map { ($0 * 2).rounded() / 2 }, labels: labels)
    }
    let (a, b) = (points("a", n, classes: 5), points("b", m, classes: 4))
    var options = EvaluationOptions()
    (options.resamples, options.seed, options.features) = (5, 3, features)
    let chosen = options
    @Sendable func evaluation(_ group: any Communicator) throws -> Evaluation {
      try Evaluation(
        of: .samples(a), against: .samples(b), training: a, options: chosen, on: Self.context(), group: group)
    }
    let one = try evaluation(SingleProcess())
    #expect(one.classes?.count == 6 && one.bootstrap?.values.count == 5 && one.copies != nil)
    #expect(one.classes?.contains { $0.frechet == nil } == true)
    for ranks in [2, 3, 7] {
      for found in try LocalGroup(ranks).run({ try evaluation($0) }) { #expect(found == one, "\(ranks) ranks") }
    }
  }

  /// Enough samples for all parts: the last block is not full.
  @Test("Mean and covariance of a large set are one process's to the last bit, and right")
  func statistics() throws {
    var draw = Draw(seed: 7)
    let (count, depth) = (66_001, 2)
    let values = draw.normal(count * depth).map { 3 + 2 * $0 }
    let set = SampleSet("many", depth: depth, values)
    let one = try Statistics(of: set, on: Self.context())
    for ranks in [2, 3, 8, 9] {
      for found in try LocalGroup(ranks).run({ try Statistics(of: set, on: Self.context(), group: $0) }) {
        #expect(found == one, "\(ranks) ranks")
      }
    }
    let means = (0..<depth).map { i in
      (0..<count).reduce(0) { $0 + Double(values[$1 * depth + i]) } / Double(count)
    }
    for i in 0..<depth {
      #expect(agrees(one.mean[i], means[i]))
      for j in 0..<depth {
        let sum = (0..<count).reduce(0) {
          $0 + (Double(values[$1 * depth + i]) - means[i]) * (Double(values[$1 * depth + j]) - means[j])
        }
        let scale = i == j ? 1e-11 : 1e-9
        #expect(agrees(one.covariance[i * depth + j], sum / Double(count - 1), scale), "(\(i), \(j))")
      }
    }
  }

  @Test("What a set lacks is every process's error")
  func refusals() throws {
    let set = SampleSet("one", depth: 2, [1, 2])
    #expect(throws: DiTError.self) {
      try LocalGroup(2).run { _ = try Statistics(of: set, on: Self.context(), group: $0) }
    }
  }
}
