import CAllocationCounter
import DiTKernels
import DiTModel
import DiTTensor
import Foundation
import TestSupport
import Testing

/// A step allocates nothing once it has run: neither on the calling thread nor on the context's workers. That is said of
/// release builds; without optimization the compiler itself puts closures and temporaries on the heap.
@Suite(
  "Steps allocate no memory once they have run (release builds)",
  .enabled(if: isOptimized && dit_allocations_supported() != 0))
struct AllocationTests {
  /// Watches the thread that makes it, and the threads started meanwhile: a context made after it has watched workers.
  private struct Watch: ~Copyable {
    init() { dit_allocations_watch() }
    deinit { dit_allocations_unwatch() }

    /// Allocations of the second of two calls.
    func allocations(_ body: () -> Void) -> Int {
      body()
      let before = dit_allocations_count()
      body()
      return dit_allocations_count() - before
    }
  }

  /// The counter sees what it must: an array, made here or on a thread started under watch.
  @Test("The counter sees allocations on this thread and on threads started under watch")
  func theCounterSeesAllocations() throws {
    let watch = Watch()
    #expect(watch.allocations {} == 0)
    #expect(watch.allocations { keep([Float](repeating: 0, count: 1000)) } > 0)
    let pool = DispatchGroup()
    let start = dit_allocations_count()
    Thread(pool) { keep((0..<500).map { [Float](repeating: 0, count: $0) }) }
    pool.wait()
    #expect(dit_allocations_count() - start > 450)
  }

  /// A sampling step: the rows of a modulation that was computed up front, and the network.
  @Test(
    "A sampling step allocates nothing, with weights fixed or not",
    arguments: [Case.tiny, .long] + Variant.batches + Part.batches, Engine.all)
  func samplingAllocatesNothing(_ batch: Case, _ engine: Engine) throws {
    for weightsAreFixed in [false, true] {
      #expect(try sampling(batch, engine, weightsAreFixed) == 0, "weights fixed: \(weightsAreFixed)")
    }
  }

  /// What a file keeps in parts, as pMF's q, k and v, is put together once, for packing or for as long as the network lives.
  @Test("A sampling step puts nothing together that a file keeps in parts", arguments: Engine.all)
  func partsAreJoinedOnce(_ engine: Engine) throws {
    var batch = Case.tiny
    let halves = batch.weights.slices.map { tensor in
      TensorParts(joining: [tensor[0..<tensor.count / 2], tensor[tensor.count / 2..<tensor.count]])
    }
    batch.weights = Weights(batch.weights.table, parts: halves)
    for weightsAreFixed in [false, true] {
      #expect(try sampling(batch, engine, weightsAreFixed) == 0, "weights fixed: \(weightsAreFixed)")
    }
  }

  private func sampling(_ batch: Case, _ engine: Engine, _ weightsAreFixed: Bool) throws -> Int {
    let watch = Watch()
    let network = try batch.network(engine, threads: 3, weightsAreFixed: weightsAreFixed)
    let ws = InferenceWorkspace(network, samples: batch.samples)
    let hoisted = network.modulation(batch.times, batch.labels)
    let modulation = network.modulation(batch.times, batch.labels)
    let sequence = batch.sequence.map { network.embed($0) }
    let (output, rows) = (MutableFloatSlice(zeros: batch.outputCount), Array((0..<batch.samples).reversed()))
    return watch.allocations {
      modulation.copyRows(rows, from: hoisted)
      network.forward(
        output: output.mutableSpan, images: batch.images.span, modulation: modulation, sequence: sequence,
        samples: batch.samples, workspace: ws)
    }
  }

  /// A training step: forward, backward, the gradient's norm, AdamW and the average.
  @Test(
    "A training step allocates nothing, recomputing or not",
    arguments: [Case.tiny, .long] + Variant.batches + Part.batches, Engine.all)
  func trainingAllocatesNothing(_ batch: Case, _ engine: Engine) throws {
    for recomputes in [false, true] {
      #expect(try training(batch, engine, recomputes) == 0, "recomputing: \(recomputes), \(batch.configuration)")
    }
  }

  private func training(_ batch: Case, _ engine: Engine, _ recomputes: Bool) throws -> Int {
    let watch = Watch()
    let network = try batch.network(engine, threads: 3)
    let context = network.context
    let ws = TrainingWorkspace(network, samples: batch.samples, recomputes: recomputes)
    let (range, size) = (try #require(batch.weights.table.trainable.first), batch.weights.table.elementCount)
    let (output, dy) = (MutableFloatSlice(zeros: batch.outputCount), upstream(batch))
    let (flat, gradients) = (MutableFloatSlice(zeros: size), MutableFloatSlice(zeros: size))
    let (m, v) = (MutableFloatSlice(zeros: size), MutableFloatSlice(zeros: size))
    let averages = [MovingAverage(MutableFloatSlice(zeros: size)[range], decay: 0.9)]
    var scratch = [Double](repeating: 0, count: ComputeContext.normScratch(range.count))
    return watch.allocations {
      network.trainingForward(
        output: output.mutableSpan, images: batch.images.span, times: batch.times.span, labels: batch.labels.span,
        sequence: batch.sequence, workspace: ws)
      context.clear(gradients)
      network.backward(
        gradients: gradients, outputGradient: dy.span, images: batch.images.span, labels: batch.labels.span,
        sequence: batch.sequence, samples: batch.samples, workspace: ws)
      let norm = context.sumOfSquares(gradients[range].reading, scratch: scratch.mutableSpan).squareRoot()
      context.adamW(
        weights: flat[range], firstMoment: m[range], secondMoment: v[range], gradient: gradients[range].reading,
        gradientScale: Float(1 / (norm + 1e-6)), learningRate: 1e-3, step: 1,
        constants: AdamW(), averages: averages)
    }
  }
}

private var isOptimized: Bool {
  #if DEBUG
    false
  #else
    true
  #endif
}

/// Keeps the optimizer from leaving out what makes `value`.
@inline(never) private func keep<Value>(_ value: Value) {}
