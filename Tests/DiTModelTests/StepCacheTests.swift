import DiTKernels
import DiTModel
import DiTTensor
import TestSupport
import Testing

/// Evaluations that are forecast, against the authors' code in PyTorch (Scripts/fixtures/step_cache.py), and what a cache must not
/// do.
@Suite("Step caching") struct StepCacheTests {
  private struct Walk {
    let batch: Case
    let images: [[Float]]
    let times: [Float]

    init() throws {
      let fixture = try Fixture("digits/step-cache")
      var batch = try Case(fixture: "digits")
      let (x, t) = (try fixture.floats("x"), try fixture.integers("t").map(Float.init))
      batch.labels = try fixture.integers("y")
      let size = x.count / t.count
      images = t.indices.map { Array(x[$0 * size..<($0 + 1) * size]) }
      times = t
      self.batch = batch
    }

    /// The outputs of all evaluations, one after another, and which were computed.
    func outputs(_ network: DiTNetwork, _ cache: StepCache?) -> (values: [Float], computed: [Bool]) {
      let samples = batch.labels.count
      let workspace = InferenceWorkspace(network, samples: samples)
      var (all, computed): ([Float], [Bool]) = ([], [])
      for (x, t) in zip(images, times) {
        let output = MutableFloatSlice(
          [Float](repeating: .nan, count: samples * network.configuration.outputElements))
        computed.append(cache?.advance() ?? true)
        network.forward(
          output: output.mutableSpan, images: x.span,
          modulation: network.modulation([Float](repeating: t, count: samples), batch.labels), samples: samples,
          workspace: workspace, cache: cache)
        all += output.array
      }
      return (all, computed)
    }
  }

  private static let rules = ["taylor:3,2", "taylor:4,4", "taylor:2,0", "lite:3,2", "lite:4,1"]

  /// Higher difference quotients amplify rounding: PyTorch's own Float32 is off by up to 7e-7.
  @Test("Forecasts are the published code's", arguments: rules, Engine.exact)
  func published(_ rule: String, _ engine: Engine) throws {
    let walk = try Walk()
    let fixture = try Fixture("digits/step-cache")
    let name = rule.replacing(":", with: "-").replacing(",", with: "-")
    let (expected, plain) = (try fixture.doubles("outputs_\(name)"), try fixture.doubles("outputs_none"))
    let network = try walk.batch.network(engine)
    let caching = try StepCaching(parsing: rule)
    let cache = StepCache(walk.batch.configuration, caching, samples: 3)
    let found = walk.outputs(network, cache)
    #expect(mismatch(found.values, expected, within: .networkOutput) == nil)
    #expect(mismatch(found.values, plain, within: .networkOutput) != nil, "nothing was forecast")
    let whole = walk.times.indices.map { $0 < 2 || ($0 - 1) % caching.interval == 0 }
    #expect(found.computed == whole)
    cache.restart()
    #expect(bitDifference(walk.outputs(network, cache).values, found.values) == nil, "after a restart")
  }

  @Test("What is computed has the bits of a run without a cache", arguments: rules)
  func computedBits(_ rule: String) throws {
    let walk = try Walk()
    let network = try walk.batch.network(Engine.all[0])
    let plain = walk.outputs(network, nil).values
    let found = walk.outputs(network, StepCache(walk.batch.configuration, try StepCaching(parsing: rule), samples: 3))
    let size = plain.count / walk.times.count
    for (place, isComputed) in found.computed.enumerated() {
      let range = place * size..<(place + 1) * size
      let difference = bitDifference(Array(found.values[range]), Array(plain[range]))
      #expect((difference == nil) == isComputed, "evaluation \(place)")
    }
  }

  /// Tokens that join in the middle, tokens of a sequence, bf16 and int8: a forecast of order 0 of an evaluation that is made
  /// again is that evaluation.
  @Test(
    "An evaluation that is asked again is forecast to be the same", arguments: Part.batches, ["taylor:2,0", "lite:2,0"])
  func again(_ batch: Case, _ rule: String) throws {
    for precision in Precision.allCases {
      let engine = Engine(level: .supported, numerics: Numerics(precision: precision, gemm: .packed))
      let network = try batch.network(engine)
      let cache = StepCache(batch.configuration, try StepCaching(parsing: rule), samples: batch.samples)
      let outputs = (0..<4).map { _ in
        cache.advance()
        return network.evaluate(batch, cache: cache)
      }
      #expect(mismatch(outputs[2], outputs[1].doubles, within: .networkReordered) == nil, "\(precision), forecast")
      #expect(bitDifference(outputs[3], outputs[0]) == nil, "\(precision), computed")
    }
  }

  @Test("The memory is what is said, and rules are read as they are written")
  func memory() throws {
    let c = try Case(fixture: "digits").configuration
    let plane = 3 * c.totalTokens * c.hiddenSize * 4
    #expect(try StepCaching(.taylor, interval: 4, order: 2).byteCount(c, samples: 3) == (2 * c.depth * 3 + 1) * plane)
    #expect(try StepCaching(.lite, interval: 4, order: 0).byteCount(c, samples: 3) == 2 * plane)
    for rule in Self.rules { #expect(try StepCaching(parsing: rule).description == rule) }
    #expect(try StepCaching(parsing: "lite:5") == StepCaching(.lite, interval: 5, order: 2))
    for bad in [
      "", "taylor", "taylor:", "taylor:1", "taylor:101", "taylor:3,5", "taylor:3,-1", "taylor:3,2,1", "fora:3",
      "lite:x",
    ] {
      #expect(throws: DiTError.self) { try StepCaching(parsing: bad) }
    }
  }
}
