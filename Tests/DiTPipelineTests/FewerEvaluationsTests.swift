import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Testing

/// Runs in which evaluations, or their unconditional halves, are taken from earlier ones.
@Suite("Fewer evaluations") struct FewerEvaluationsTests {
  private func model() throws -> DiT {
    try DiT(contentsOf: networkFixture("digits"), context: ComputeContext(threads: 1, workers: 1))
  }

  /// 12 steps at 0, 90, …, 990 from above; those of 270…720 are guided: six after three, before three.
  private func options(_ sampler: SamplerName = .ddim) -> SamplingOptions {
    SamplingOptions(
      sampler: Sampler(sampler, steps: 12, schedule: .custom((0..<12).map { 90 * $0 })),
      guidance: Guidance(scale: 3, interval: 270...720), seed: 4)
  }

  private func run(_ options: SamplingOptions) throws -> (samples: Samples, evaluated: [Int]) {
    var evaluated: [Int] = []
    let samples = try model().sample(.classes([1, 5]), options: options) { progress in
      evaluated.append(progress.evaluatedImages)
      return true
    }
    return (samples, evaluated)
  }

  /// Two images: a computed evaluation is 2 of them, a guided one 4.
  @Test(
    "A cache begins anew where guidance begins and ends, and counts what is computed",
    arguments: ["taylor:3,2", "lite:3,1"])
  func intervals(_ rule: String) throws {
    var options = options()
    let plain = try run(options)
    #expect(plain.evaluated.last == 36)
    options.caching = try StepCaching(parsing: rule)
    let cached = try run(options)
    // c c · | c c · · c · | c c ·
    #expect(cached.evaluated == [2, 4, 4, 8, 12, 12, 12, 16, 16, 18, 20, 20])
    #expect(cached.samples != plain.samples && cached.samples.images.elements.allSatisfy { $0.isFinite })
    #expect(try run(options).samples == cached.samples, "again")
    options.batch = 1
    let alone = try run(options).samples.images.elements
    let largest = cached.samples.images.elements.map(\.magnitude).max() ?? 0
    let worst = zip(alone, cached.samples.images.elements).map { abs($0 - $1) }.max() ?? .infinity
    #expect(worst <= 1e-4 * largest)
  }

  @Test("A forecast of order 0 with nothing between computed evaluations is none")
  func nothingBetween() throws {
    var options = options()
    let plain = try run(options).samples
    // Of segments of three and six evaluations the first two are computed in any case.
    options.caching = try StepCaching(.taylor, interval: 100, order: 0)
    #expect(try run(options).evaluated.last == 16)
    #expect(try run(options).samples != plain)
  }

  @Test("The difference of the halves is that of the last evaluation that computed both")
  func guidanceEvery() throws {
    var options = options()
    options.guidance.every = 3
    let found = try run(options)
    // Of six guided evaluations the first and the fourth.
    #expect(found.evaluated == [2, 4, 6, 10, 12, 14, 18, 20, 22, 24, 26, 28])
    // By hand: the network's two halves, mixed, and DDIM's steps.
    let model = try model()
    let process = try model.process(options.sampler)
    var (evaluation, difference): (Int, [Float]) = (0, [])
    var x = try #require(try start(of: model, options)).elements
    let shape = model.configuration.network.batchShape(2)
    var span = x.mutableSpan
    _ = process.sample(
      &span, shape: shape,
      predict: { x, step, output in
        let time = process.evaluations[step.evaluation]
        func half(_ labels: [Int]) throws -> [Float] {
          var elements = [Float](repeating: 0, count: x.count)
          for i in elements.indices { elements[i] = x[i] }
          return try model.predict(
            images: Tensor(shape: [2, 1, 8, 8], elements: elements), times: [time.value, time.value], labels: labels
          ).elements
        }
        let conditional = try! half([1, 5])
        let isGuided = options.guidance.isActive(at: time)
        if isGuided, [3, 6].contains(step.evaluation) {
          let other = try! half([10, 10])
          difference = zip(conditional, other).map { $0 - $1 }
        }
        evaluation += 1
        for i in output.indices {
          let isVariance = i % (output.count / 2) >= 64
          output[i] =
            isGuided && !isVariance
            ? (conditional[i] - difference[i]) + 3 * (conditional[i] - (conditional[i] - difference[i]))
            : conditional[i]
        }
      },
      noise: { _, _ in }, finish: { _, _ in }, progress: { _, _ in true })
    #expect(evaluation == 12)
    let largest = x.map(\.magnitude).max() ?? 0
    let worst = zip(found.samples.images.elements, x).map { abs($0 - $1) }.max() ?? .infinity
    #expect(worst <= 1e-4 * largest)
  }

  private func start(of model: DiT, _ options: SamplingOptions) throws -> Tensor? {
    let noise = (0..<2).flatMap { n -> [Float] in
      var random = Philox(seed: options.seed, stream: UInt64(n))
      return random.normal(count: 64)
    }
    return Tensor(shape: [2, 1, 8, 8], elements: noise)
  }

  @Test("Samplers that evaluate the network other than once a step, and sessions, refuse a cache")
  func refused() throws {
    for name in [SamplerName.heun, .pndm] {
      var options = SamplingOptions(sampler: Sampler(name, steps: 10), guidance: Guidance(scale: 2))
      options.caching = try StepCaching(.lite, interval: 3)
      #expect(throws: DiTError.self) { try model().sample(.classes([1]), options: options) }
    }
    var options = options()
    options.caching = try StepCaching(.lite, interval: 3)
    #expect(try model().cacheByteCount(options, count: 2) > 0)
    options.guidance.every = 2
    #expect(throws: DiTError.self) { try model().sample(.classes([1]), options: options) }
  }
}

/// What `dit convert --dtype int8` decides and writes.
@Suite("int8 plans") struct Int8PlanTests {
  @Test(
    "A plan measures every block and the layers of sensitive ones, keeps these layers, and its file says which they are"
  )
  func plan() throws {
    let context = try ComputeContext(threads: 1, workers: 1)
    let conversion = try ModelConversion(networkFixture("digits"), to: .dit, context: context)
    let directory = try TemporaryDirectory()
    let path = directory("int8")
    var measured: [Int] = []
    let notes = try conversion.write(to: path, as: .i8) { count, _ in measured.append(count) }
    let weights = try ModelDirectory(contentsOf: path).weights()
    let table = weights.table
    #expect(notes.contains { $0.hasPrefix("int8: ") })
    let storage = try #require(try ModelReference(path).storage())
    #expect(Set(storage.wide) == Set(weights.wide.map { table.parameters[$0].name }))
    let plan = try Int8Plan(
      conversion.configuration, try ModelDirectory(contentsOf: networkFixture("digits")).weights(), context: context)
    #expect(plan.layers.count == table.blockLayers.count && plan.blocks.count == table.layersOfBlocks.count)
    let limit = Int8Plan.greatestShare * plan.blocks.reduce(0) { $0 + $1 * $1 }
    for layer in plan.layers {
      let (block, error) = (plan.blocks[layer.block], layer.error ?? 0)
      #expect((layer.error != nil) == (block * block > limit), "\(layer)")
      #expect(layer.isWide == (error * error > limit), "\(layer)")
      if layer.error != nil { #expect(error > 0 && error < 2 * block, "\(layer)") }
    }
    let looked = plan.layers.count { $0.error != nil }
    #expect(measured == Array(1...plan.blocks.count + looked))
    #expect(plan.layers.contains { $0.isWide } && !plan.layers.allSatisfy { $0.isWide })
    #expect(Set(plan.layers.filter(\.isWide).map(\.name)) == Set(storage.wide))
    #expect(plan.error < plan.wholeError && plan.error > 1e-4)
    let inLittle = try Int8Plan(
      conversion.configuration, try ModelDirectory(contentsOf: networkFixture("digits")).weights(), context: context,
      memory: 3 * 4096)
    #expect(inLittle.blocks == plan.blocks && inLittle.layers == plan.layers, "three images at once, 4,096 bytes each")
  }

  @Test("A new network, whose outputs are all zero, has no error in int8, and none that is no number")
  func newNetwork() throws {
    let plan = try Int8Plan(
      ModelConfiguration(network: smallNetwork), Weights.initialized(smallNetwork, seed: 3).weights,
      context: ComputeContext(threads: 1, workers: 1))
    #expect(
      plan.error == 0 && plan.wholeError == 0 && plan.blocks.allSatisfy { $0 == 0 }
        && plan.layers.allSatisfy { $0.error == nil && !$0.isWide })
  }
}
