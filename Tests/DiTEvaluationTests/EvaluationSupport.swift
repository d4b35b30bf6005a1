import DiTEvaluation
import DiTFiles
import DiTKernels
import Foundation
import TestSupport
import Testing

/// What scipy and scikit-learn found; see Scripts/fixtures/evaluation.py.
enum Oracle {
  static func open() throws -> SafetensorsFile {
    try SafetensorsFile(contentsOf: Fixture.path("../evaluation/evaluation.safetensors"))
  }

  static func values(_ name: String) throws -> [Double] { try open().doubles(name).values }

  /// The images under `name`, with their labels.
  static func set(_ name: String, labels: String? = nil) throws -> SampleSet {
    let file = try open()
    let entry = try file.requireEntry(named: name)
    let (shape, numbers) = (Array(entry.shape.dropFirst()), try file.numbers(name).elements)
    let depth = shape.reduce(1, *)
    let store: any SampleStore =
      entry.dtype == .u8
      ? ByteStore(depth: depth, bytes: numbers.map { UInt8($0) }) : FloatStore(depth: depth, elements: numbers)
    return SampleSet(name: name, shape: shape, store: store, labels: try labels.map { try file.integers($0).values })
  }

  static func pair(_ name: String) throws -> (samples: SampleSet, reference: SampleSet) {
    (
      try set("\(name).samples", labels: "\(name).sample_labels"),
      try set("\(name).reference", labels: "\(name).reference_labels")
    )
  }
}

extension SampleSet {
  /// Numbers of `depth` coordinates.
  init(_ name: String, depth: Int, _ elements: [Float], labels: [Int]? = nil) {
    self.init(name: name, shape: [depth], store: FloatStore(depth: depth, elements: elements), labels: labels)
  }
}

func evaluate(
  _ samples: SampleSet, _ reference: SampleSet, training: SampleSet? = nil, threads: Int = 2,
  _ change: (inout EvaluationOptions) -> Void = { _ in }
) throws -> Evaluation {
  var options = EvaluationOptions()
  change(&options)
  return try Evaluation(
    of: .samples(samples), against: .samples(reference), training: training, options: options,
    on: ComputeContext(threads: threads, workers: threads))
}

/// Whether two numbers agree to `tolerance` of the expected one.
func agrees(_ found: Double?, _ expected: Double, _ tolerance: Double = 1e-12) -> Bool {
  guard let found else { return false }
  return abs(found - expected) <= tolerance * abs(expected)
}
