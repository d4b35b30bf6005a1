import DiTKernels
import DiTModel
import DiTTensor
import TestSupport
import Testing

/// The gradient of the whole network, tensor by tensor. (PyTorch's gradients of the training loss are compared where the
/// loss is.)
@Suite("The gradient of the whole network, tensor by tensor") struct GradientTests {
  #if os(Linux) || os(macOS)
    /// One forward pass and `count` backward passes over it.
    private static func differentiate(backward count: Int) throws {
      let batch = Case.tiny
      let network = try batch.network(Engine.exact[0])
      let (ws, dy) = (TrainingWorkspace(network, samples: batch.samples), upstream(batch))
      let gradients = MutableFloatSlice(zeros: batch.weights.table.elementCount)
      let output = MutableFloatSlice(zeros: batch.outputCount)
      network.trainingForward(
        output: output.mutableSpan, images: batch.images.span, times: batch.times.span, labels: batch.labels.span,
        workspace: ws)
      for _ in 0..<count {
        network.backward(
          gradients: gradients, outputGradient: dy.span, images: batch.images.span, labels: batch.labels.span,
          samples: batch.samples, workspace: ws)
      }
    }

    /// The first has overwritten what the second would read. Each in a process of its own; the last one shows that a single
    /// pass does not end it.
    @Test("A second backward pass over one forward pass ends the process")
    func backwardUsesUpItsForward() async {
      await #expect(processExitsWith: .failure) { try GradientTests.differentiate(backward: 2) }
      await #expect(processExitsWith: .success) { try GradientTests.differentiate(backward: 1) }
    }
  #endif

  /// Elements of a tensor to look at: all of a small one.
  private static func sample(_ parameter: Parameter, _ draw: inout Draw) -> [Int] {
    parameter.count <= 64 ? Array(0..<parameter.count) : draw.indices(16, below: parameter.count)
  }

  /// Central differences of the Double reference's Σ dy ⊙ output, by each engine, for elements of every tensor. The keys'
  /// third of qkv.bias has no gradient but rounding (softmax does not see it), so that tensor is looked at as a whole.
  @Test("Every tensor's gradient is the slope of the Double reference by central differences")
  func differencesOfTheReference() throws {
    let batch = Case.tiny
    let (dy, images) = (upstream(batch), batch.images.doubles)
    let weights = dy.doubles
    let gradients = try Engine.exact.map { engine in
      (engine, try batch.network(engine).differentiate(batch, outputGradient: dy).gradients)
    }
    var reference = ReferenceNetwork(batch)
    var draw = Draw(seed: 95)
    for parameter in batch.weights.table.trainableParameters {
      let values = try #require(reference.tensors[parameter.name])
      let indices = Self.sample(parameter, &draw)
      let expected = centralDifferences(at: values, indices: indices) {
        reference.tensors[parameter.name] = $0
        return dot(weights, reference.output(images, batch.times, batch.labels))
      }
      reference.tensors[parameter.name] = values
      for (engine, flat) in gradients {
        let found = indices.map { flat[parameter.offset + $0] }
        #expect(mismatch(found, expected, within: .networkReordered) == nil, "\(parameter.name), \(engine)")
      }
    }
    // Positions are not trained, and the padding between tensors stays zero.
    for (engine, flat) in gradients {
      var rest = flat.array
      for parameter in batch.weights.table.trainableParameters {
        for i in parameter.range { rest[i] = 0 }
      }
      #expect(rest.allSatisfy { $0 == 0 }, "\(engine)")
    }
  }

  /// The Float network by itself: stepping a tensor along its gradient g by ±h changes the loss by ±h|g|. The step changes
  /// the loss by about a percent of its terms, so that rounding (3e-7 of them) costs 1e-4 and the third order little.
  @Test("Every tensor's gradient is the network's own slope along it", arguments: [Case.tiny, .long], Engine.exact)
  func differencesOfTheNetwork(_ original: Case, _ engine: Engine) throws {
    let (batch, flat) = original.copy()
    let dy = upstream(batch)
    let network = try batch.network(engine)
    let gradients = network.differentiate(batch, outputGradient: dy).gradients
    for parameter in batch.weights.table.trainableParameters {
      let (values, g) = (flat[parameter.range], gradients[parameter.range].array.doubles)
      let start = values.array
      let norm = dot(g, g).squareRoot()
      let step = 0.01 * Double(batch.outputCount).squareRoot() / norm
      func loss(_ h: Double) -> Double {
        for i in g.indices { values[i] = Float(Double(start[i]) + h * g[i] / norm) }
        return dot(dy.doubles, network.evaluate(batch).doubles)
      }
      let slope = (loss(step) - loss(-step)) / (2 * step)
      values.copy(from: start.span)
      #expect(mismatch([slope], [norm], within: .floatDifferences) == nil, "\(parameter.name)")
    }
  }

  /// The gradient of a batch is the sum of its samples', and is added to what is there.
  @Test(
    "The gradient of a batch is the sum of its samples', added to what is there",
    arguments: [Case.tiny, .long], Engine.exact)
  func accumulation(_ batch: Case, _ engine: Engine) throws {
    let network = try batch.network(engine)
    let dy = upstream(batch)
    let size = batch.configuration.outputElements
    let whole = network.differentiate(batch, outputGradient: dy).gradients
    let sum = MutableFloatSlice(zeros: whole.count)
    // A workspace for more samples than come, used again and again.
    let ws = TrainingWorkspace(network, samples: batch.samples + 1)
    let output = MutableFloatSlice(zeros: size)
    for n in 0..<batch.samples {
      let one = batch.sample(n)
      network.trainingForward(
        output: output.mutableSpan, images: one.images.span, times: one.times.span, labels: one.labels.span,
        workspace: ws)
      network.backward(
        gradients: sum, outputGradient: FloatSlice(dy)[n * size..<(n + 1) * size].span, images: one.images.span,
        labels: one.labels.span, samples: 1, workspace: ws)
    }
    for parameter in batch.weights.table.trainableParameters {
      let (a, b) = (sum[parameter.range].array, whole[parameter.range].array.doubles)
      #expect(mismatch(a, b, within: .networkReordered) == nil, "\(parameter.name)")
    }
    let again = network.differentiate(batch, outputGradient: dy, workspace: ws).gradients
    #expect(bitDifference(again.array, whole.array) == nil)
  }
}
