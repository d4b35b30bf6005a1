import DiTKernels
import DiTModel
import DiTTensor
import TestSupport
import Testing

/// What the network computes: against PyTorch, the Double reference, and itself by other routes.
@Suite("The network's output") struct ForwardTests {
  @Test("Inference and training outputs are PyTorch's", arguments: Case.fixtures, Engine.exact)
  func torch(_ name: String, _ engine: Engine) throws {
    let batch = try Case(fixture: name)
    let fixture = try Fixture("\(name)/forward")
    let network = try batch.network(engine)
    let inference = network.evaluate(batch)
    try #expect(mismatch(inference, fixture.doubles("output"), within: .networkOutput) == nil)
    try #expect(mismatch(inference, fixture.doubles("output64"), within: .networkOutput) == nil)
    let (training, _) = network.differentiate(batch, outputGradient: upstream(batch))
    try #expect(mismatch(training, fixture.doubles("output64"), within: .networkOutput) == nil)
    #expect(mismatch(training, inference.doubles, within: .networkReordered) == nil)
  }

  /// The Double reference is the network that torch computes, to Double's own accuracy, once it has torch's features
  /// (which are stored for every time but that of `pixels`).
  @Test(
    "The Double reference network is PyTorch's to Double's own precision",
    arguments: Case.fixtures.filter { $0 != "pixels" })
  func referenceIsTorch(_ name: String) throws {
    let batch = try Case(fixture: name)
    let kernels = try Fixture("kernels")
    let (known, features) = try (kernels.integers("time.t"), kernels.doubles("time.features"))
    let rows = try batch.times.flatMap { time in
      let row = try #require(known.firstIndex(of: Int(time)))
      return features[row * timeFrequencyCount..<(row + 1) * timeFrequencyCount]
    }
    let output = ReferenceNetwork(batch).output(batch.images.doubles, batch.times, batch.labels, features: rows)
    try #expect(mismatch(output, Fixture("\(name)/forward").doubles("output64"), within: .double) == nil)
  }

  @Test("Inference and training outputs agree with the Double reference", arguments: [Case.tiny, .long])
  func reference(_ batch: Case) throws {
    let expected = ReferenceNetwork(batch).output(batch.images.doubles, batch.times, batch.labels)
    for engine in Engine.exact {
      let network = try batch.network(engine)
      #expect(mismatch(network.evaluate(batch), expected, within: .networkReordered) == nil, "\(engine)")
      let (training, _) = network.differentiate(batch, outputGradient: upstream(batch))
      #expect(mismatch(training, expected, within: .networkReordered) == nil, "\(engine)")
    }
  }

  /// Packed or by OpenBLAS, whatever its core: see Sources/DiTKernels/Products/BLASProduct.swift.
  @Test(
    "An image's bits do not depend on how many others run with it, nor on its place among them",
    arguments: [Case.tiny, .long, .square], Engine.all)
  func bitsDoNotDependOnTheBatch(_ batch: Case, _ engine: Engine) throws {
    let network = try batch.network(engine)
    let c = batch.configuration
    func output(_ order: [Int]) -> [[Float]] {
      let images = order.flatMap { batch.sample($0).images }
      let output = MutableFloatSlice(zeros: order.count * c.outputElements)
      network.forward(
        output: output.mutableSpan, images: images.span,
        modulation: network.modulation(order.map { batch.times[$0] }, order.map { batch.labels[$0] }),
        samples: order.count, workspace: InferenceWorkspace(network, samples: order.count))
      return order.indices.map { output[$0 * c.outputElements..<($0 + 1) * c.outputElements].array }
    }
    let alone = (0..<batch.samples).map { output([$0])[0] }
    for count in [2, 3, 5, 8, 13] {
      let order = (0..<count).map { ($0 + 1) % batch.samples }
      for (place, (found, sample)) in zip(output(order), order).enumerated() {
        #expect(bitDifference(found, alone[sample]) == nil, "image \(place) of \(count)")
      }
    }
  }

  /// Modulation rows computed once, for other samples too and in another order, then copied: as if made for this batch.
  @Test("Modulation computed in advance and copied gives the same output", arguments: [Case.tiny, .long], Engine.exact)
  func hoistedModulation(
    _ batch: Case, _ engine: Engine
  ) throws {
    let network = try batch.network(engine)
    let c = batch.configuration
    let hoisted = network.modulation(
      [500] + batch.times.reversed() + [0], [0] + batch.labels.reversed() + [1])
    // More rows than samples: the first ones count.
    let values = MutableFloatSlice([Float](repeating: .nan, count: Modulation.elements(c, rows: batch.samples + 1)))
    let copied = Modulation(c, rows: batch.samples + 1, values: values)
    copied.copyRows((0..<batch.samples).map { batch.samples - $0 }, from: hoisted)
    let output = MutableFloatSlice(zeros: batch.outputCount)
    network.forward(
      output: output.mutableSpan, images: batch.images.span, modulation: copied, samples: batch.samples,
      workspace: InferenceWorkspace(network, samples: batch.samples + 2))
    #expect(bitDifference(output.array, network.evaluate(batch)) == nil)

    // Rows of the very same modulation give the very same bytes.
    let direct = network.modulation(batch.times, batch.labels)
    copied.copyRows(Array(0..<batch.samples), from: direct)
    network.forward(
      output: output.mutableSpan, images: batch.images.span, modulation: copied, samples: batch.samples,
      workspace: InferenceWorkspace(network, samples: batch.samples))
    #expect(bitDifference(output.array, network.evaluate(batch)) == nil)
  }

  /// A workspace keeps nothing from one call to the next, nor does a larger one matter.
  @Test("A workspace keeps nothing from one call to the next", arguments: [Case.tiny, .long], Engine.all)
  func reusedWorkspace(_ batch: Case, _ engine: Engine) throws {
    let network = try batch.network(engine)
    let expected = network.evaluate(batch)
    let ws = InferenceWorkspace(network, samples: batch.samples + 1)
    let modulation = network.modulation(batch.times, batch.labels)
    let noise = [Float](repeating: 1e6, count: batch.images.count)
    let output = MutableFloatSlice(zeros: batch.outputCount)
    for images in [batch.images, noise, batch.images] {
      network.forward(
        output: output.mutableSpan, images: images.span, modulation: modulation, samples: batch.samples, workspace: ws)
    }
    #expect(bitDifference(output.array, expected) == nil)
  }

  /// What int8 plans are measured with.
  @Test(
    "From any block on, of the stream that was kept, a pass has the bits of the whole", arguments: [Case.tiny, .long],
    Engine.all)
  func fromABlock(_ batch: Case, _ engine: Engine) throws {
    let network = try batch.network(engine)
    let c = batch.configuration
    let expected = network.evaluate(batch)
    let stream = MutableFloatSlice(zeros: c.depth * network.streamElements(samples: batch.samples))
    func output(images: [Float]?, from block: Int) -> [Float] {
      let output = MutableFloatSlice(zeros: batch.outputCount)
      network.forward(
        output: output.mutableSpan, images: images, stream: stream, from: block,
        modulation: network.modulation(batch.times, batch.labels), sequence: nil, samples: batch.samples,
        workspace: InferenceWorkspace(network, samples: batch.samples))
      return output.array
    }
    #expect(bitDifference(output(images: batch.images, from: 0), expected) == nil)
    for block in (0..<c.depth).reversed() {
      #expect(bitDifference(output(images: nil, from: block), expected) == nil, "from block \(block)")
    }
  }

  /// One slice a tensor, each in a buffer of its own at an odd offset, is the same network as a flat buffer.
  @Test("Weights in separate buffers give the same bits as in a flat one", arguments: Engine.all)
  func separateSlices(_ engine: Engine) throws {
    let batch = Case.tiny
    let network = try batch.network(engine)
    let slices = batch.weights.slices.enumerated().map { i, slice in
      let all = MutableFloatSlice([Float](repeating: .nan, count: i % 16) + slice.array + [.nan])
      return all[i % 16..<i % 16 + slice.count].reading
    }
    let separate = DiTNetwork(
      batch.configuration, weights: Weights(batch.weights.table, slices: slices), context: network.context,
      numerics: engine.numerics)
    let gradient = upstream(batch)
    #expect(bitDifference(separate.evaluate(batch), network.evaluate(batch)) == nil)
    let (a, b) = (
      separate.differentiate(batch, outputGradient: gradient), network.differentiate(batch, outputGradient: gradient)
    )
    #expect(bitDifference(a.output, b.output) == nil)
    #expect(bitDifference(a.gradients.array, b.gradients.array) == nil)
  }

  @Test(
    "Output and gradients have the same bits with 1, 2 and 3 threads",
    arguments: [Case.tiny, .long] + Part.batches, Engine.all)
  func threadCounts(_ batch: Case, _ engine: Engine) throws {
    let gradient = upstream(batch)
    let results = try [1, 2, 3].map { threads in
      let network = try batch.network(engine, threads: threads)
      let (output, gradients) = network.differentiate(batch, outputGradient: gradient)
      return [("inference", network.evaluate(batch)), ("training", output), ("gradients", gradients.array)]
    }
    #expect(bitDifference(results[1], results[0]) == nil, "2 threads")
    #expect(bitDifference(results[2], results[0]) == nil, "3 threads")
  }
}

extension Case: CustomTestStringConvertible {
  var testDescription: String { "\(configuration.tokens) tokens, D = \(configuration.hiddenSize)" }
}
