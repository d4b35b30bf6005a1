import DiTKernels
import DiTModel
import DiTTensor
import Foundation
import Synchronization
import TestSupport
import Testing

/// What a network's numerics change, and what they must not: bf16 is near, packing and recomputing are the same.
@Suite("Numerics: bf16 is near, packing and recomputing change nothing") struct NumericsTests {
  // MARK: bf16

  /// The root of the mean square of the error, as a share of the expected numbers' own.
  private static func error(_ found: [Float], _ expected: [Double]) -> Double {
    let difference = zip(found, expected).map { Double($0) - $1 }
    return (dot(difference, difference) / dot(expected, expected)).squareRoot()
  }

  private static func cosine(_ a: [Double], _ b: [Double]) -> Double {
    dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot()
  }

  /// Measured: 3e-4 to 1.4e-3. Less than 1e-4 is no bf16, more than 5e-3 is more than rounding operands costs.
  @Test(
    "In bf16 the output is off by as much as rounding operands costs, no more and no less",
    arguments: Case.fixtures, Engine.bf16)
  func outputIsNear(_ name: String, _ engine: Engine) throws {
    let batch = try Case(fixture: name)
    let expected = try Fixture("\(name)/forward").doubles("output64")
    let network = try batch.network(engine)
    let (training, _) = network.differentiate(batch, outputGradient: upstream(batch))
    for (path, output) in [("inference", network.evaluate(batch)), ("training", training)] {
      let error = Self.error(output, expected)
      #expect((1e-4...5e-3).contains(error), "\(path): \(error)")
    }
  }

  /// Every tensor's gradient points where OpenBLAS's in float32 does, which is compared with others elsewhere. Measured:
  /// errors of up to 6.5e-3, cosines from 0.99998 on.
  @Test("In bf16 every gradient points where Float32's does", arguments: Case.fixtures, Engine.bf16)
  func gradientsAreNear(_ name: String, _ engine: Engine) throws {
    let batch = try Case(fixture: name)
    let dy = upstream(batch)
    let exact = Engine(level: engine.level, numerics: Numerics(gemm: .blas))
    let expected = try batch.network(exact).differentiate(batch, outputGradient: dy).gradients
    let found = try batch.network(engine).differentiate(batch, outputGradient: dy).gradients
    for parameter in batch.weights.table.trainableParameters {
      let (a, b) = (found[parameter.range].array, expected[parameter.range].array.doubles)
      #expect(Self.cosine(a.doubles, b) > 0.9998, "\(parameter.name): \(Self.cosine(a.doubles, b))")
      #expect(Self.error(a, b) < 2e-2, "\(parameter.name): \(Self.error(a, b))")
    }
    #expect(Self.error(found.array, expected.array.doubles) > 1e-4, "not in bf16")
  }

  /// With the CPU's own products of bf16, without them, and at narrower levels: the same network but for rounding.
  /// Measured: 4e-5.
  @Test("All instruction sets agree in bf16 but for rounding", arguments: Case.fixtures)
  func levelsAgree(_ name: String) throws {
    let batch = try Case(fixture: name)
    let results = try Engine.bf16.map { engine in
      let network = try batch.network(engine)
      let (_, gradients) = network.differentiate(batch, outputGradient: upstream(batch))
      return (engine, network.evaluate(batch), gradients.array)
    }
    for (engine, output, gradients) in results.dropFirst() {
      let (a, b) = (Self.error(output, results[0].1.doubles), Self.error(gradients, results[0].2.doubles))
      #expect(a < 1e-3 && b < 1e-3, "\(engine): output \(a), gradients \(b)")
    }
  }

  // MARK: int8

  /// Measured: 8e-4 to 1.3e-2, on networks of random weights.
  @Test(
    "In int8 the output is off by as much as rounding to 255 steps costs, no more and no less",
    arguments: Case.fixtures, Engine.int8)
  func int8IsNear(_ name: String, _ engine: Engine) throws {
    let batch = try Case(fixture: name)
    let expected = try Fixture("\(name)/forward").doubles("output64")
    let error = Self.error(try batch.network(engine).evaluate(batch), expected)
    #expect((5e-4...3e-2).contains(error), "\(error)")
  }

  @Test(
    "int8 packed once or per call, in parts of a batch, and of weights that were codes before: the same bits",
    arguments: [Case.tiny, .long] + Part.batches, Engine.int8)
  func int8Bits(_ batch: Case, _ engine: Engine) throws {
    let expected = try batch.network(engine).evaluate(batch)
    #expect(bitDifference(try batch.network(engine, weightsAreFixed: true).evaluate(batch), expected) == nil)
    #expect(bitDifference(try batch.network(engine, threads: 3).evaluate(batch), expected) == nil)
    let (copied, flat) = batch.copy()
    let table = copied.weights.table
    for layer in table.blockLayers {
      let range = table.parameters[layer.weight].range
      let (codes, scales) = try engine.context().quantizedWeights(
        Matrix(flat.reading[range], rows: layer.outputs, columns: layer.inputs))
      for (i, place) in range.enumerated() { flat[place] = Float(codes[i]) * scales[i / layer.inputs] }
    }
    #expect(bitDifference(try copied.network(engine).evaluate(copied), expected) == nil, "of codes")
  }

  @Test("Layers that int8 leaves in bf16 are bf16's: all of them make bf16's output", arguments: Engine.int8)
  func wideLayers(_ engine: Engine) throws {
    var half = engine
    half.numerics.precision = .bf16
    for var batch in [Case.tiny, .long] {
      let expected = try batch.network(half).evaluate(batch)
      let all = batch.weights.table.blockLayers.map(\.weight)
      let narrow = try batch.network(engine).evaluate(batch)
      batch.weights.wide = Set(all)
      #expect(bitDifference(try batch.network(engine).evaluate(batch), expected) == nil)
      for index in all {
        batch.weights.wide = Set(all).subtracting([index])
        let output = try batch.network(engine).evaluate(batch)
        #expect(bitDifference(output, expected) != nil && bitDifference(output, narrow) != nil, "tensor \(index)")
      }
    }
  }

  // MARK: Packing

  /// Packed once or for every call: the same bits, when several threads are the first too, and with a training pass in
  /// between.
  @Test(
    "Weights packed once give the same bits as weights packed per call",
    arguments: [Case.tiny, .long] + Part.batches, Engine.all)
  func fixedWeights(_ batch: Case, _ engine: Engine) throws {
    let expected = try batch.network(engine).evaluate(batch)
    let network = try batch.network(engine, weightsAreFixed: true)
    let differences = Mutex<[String?]>([])
    let group = DispatchGroup()
    for _ in 0..<3 {
      Thread(group) {
        let difference = bitDifference(network.evaluate(batch), expected)
        differences.withLock { $0.append(difference) }
      }
    }
    group.wait()
    #expect(differences.withLock { $0 } == [nil, nil, nil])
    let dy = upstream(batch)
    let gradients = network.differentiate(batch, outputGradient: dy).gradients
    let other = try batch.network(engine).differentiate(batch, outputGradient: dy).gradients
    #expect(bitDifference(gradients.array, other.array) == nil)
    #expect(bitDifference(network.evaluate(batch), expected) == nil, "again")
    let (copied, _) = batch.copy()
    let moved = try copied.network(engine, weightsAreFixed: true)
    #expect(bitDifference(moved.evaluate(copied), expected) == nil, "weights elsewhere")
  }

  /// Weights that are changed in place are seen by every pass of a network that does not fix them, and not by the
  /// inference of one that does.
  @Test("Changed weights are seen, unless the network was told that they are fixed", arguments: Engine.packed)
  func changedWeights(_ engine: Engine) throws {
    let (batch, flat) = Case.tiny.copy()
    let dy = upstream(batch)
    let (network, fixed) = try (batch.network(engine), batch.network(engine, weightsAreFixed: true))
    let before = network.evaluate(batch)
    #expect(bitDifference(fixed.evaluate(batch), before) == nil)
    _ = network.differentiate(batch, outputGradient: dy)
    for name in [
      "x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "blocks.1.mlp.fc1.weight",
      "blocks.1.mlp.fc2.weight", "final_layer.linear.weight",
    ] {
      let last = network.evaluate(batch)
      let parameter = try #require(batch.weights.table.parameter(named: name))
      for i in parameter.range { flat[i] *= 1.25 }
      let (new, _) = batch.copy()
      let fresh = try new.network(engine)
      let found = network.evaluate(batch)
      #expect(bitDifference(found, fresh.evaluate(new)) == nil, "\(name)")
      #expect(bitDifference(found, last) != nil, "\(name) changes nothing")
      let (a, b) = (
        network.differentiate(batch, outputGradient: dy), fresh.differentiate(new, outputGradient: dy)
      )
      #expect(bitDifference(a.output, b.output) == nil, "\(name), training")
      #expect(bitDifference(a.gradients.array, b.gradients.array) == nil, "\(name), gradients")
      #expect(bitDifference(fixed.evaluate(batch), before) == nil, "\(name) was packed again")
    }
  }

  /// `auto` is one of the two, and the two are not the same code.
  @Test(
    "auto chooses one of the two kinds of products, which differ in rounding only",
    arguments: InstructionSet.runnable)
  func gemm(_ level: InstructionSet) throws {
    let batch = try Case(fixture: "head72")
    let outputs = try GEMM.allCases.map { gemm in
      try batch.network(Engine(level: level, numerics: Numerics(gemm: gemm))).evaluate(batch)
    }
    let (blas, packed, auto) = (outputs[0], outputs[1], outputs[2])
    let packs = Numerics().isPacked(on: try ComputeContext(threads: 1, instructionSet: level))
    #expect(bitDifference(auto, packs ? packed : blas) == nil)
    #expect(mismatch(packed, blas.doubles, within: .networkReordered) == nil)
    if level == .portable { #expect(bitDifference(packed, blas) != nil, "one code for both") }
  }

  // MARK: Recomputation

  /// Less memory, the same bits. One sample of `tiny` has as many rows as are few.
  @Test(
    "Recomputing activations takes less memory and gives the same bits",
    arguments: [Case.tiny, .tiny.sample(1), .long] + Part.batches, Engine.all)
  func recomputation(_ batch: Case, _ engine: Engine) throws {
    let network = try batch.network(engine)
    let dy = upstream(batch)
    let kept = TrainingWorkspace(network, samples: batch.samples)
    let made = TrainingWorkspace(network, samples: batch.samples, recomputes: true)
    #expect(!kept.recomputes && made.recomputes)
    #expect(batch.configuration.depth == 1 || made.byteCount < kept.byteCount)
    let expected = network.differentiate(batch, outputGradient: dy, workspace: kept)
    for _ in 0..<2 {
      let found = network.differentiate(batch, outputGradient: dy, workspace: made)
      #expect(bitDifference(found.output, expected.output) == nil)
      #expect(bitDifference(found.gradients.array, expected.gradients.array) == nil)
    }
  }
}
