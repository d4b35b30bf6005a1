import CAllocationCounter
import DiTDiffusion
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import DiTTraining
import Testing

/// Steps allocate nothing once the first has run: on the calling thread and on the workers.
@Suite("Steps allocate no memory after the first", .enabled(if: dit_allocations_supported() != 0))
struct AllocationTests {
  /// Draws, forward, backward, clipping, AdamW, EMA; over micro-batches and across the end of an epoch.
  @Test(
    "Training steps allocate nothing after the first, in both precisions",
    arguments: Precision.training, [false, true])
  func trainingSteps(_ precision: Precision, recomputing: Bool) throws {
    dit_allocations_watch()
    defer { dit_allocations_unwatch() }
    let trainer = try tinyTrainer(threads: 2) { ($0.precision, $0.recompute) = (precision, recomputing) }
    _ = try trainer.step()
    for step in 2...9 {
      let before = dit_allocations_count()
      _ = try trainer.step()
      let count = dit_allocations_count() - before
      #expect(count == 0, "step \(step): \(count) allocations")
    }
  }

  /// A linear path's drawn times, JiT's loss and three averages too.
  @Test("Steps on a linear path with several averages allocate nothing after the first")
  func linearSteps() throws {
    dit_allocations_watch()
    defer { dit_allocations_unwatch() }
    var model = tinyModel()
    model.diffusion = DiffusionConfiguration(
      path: .linear, prediction: .x0, networkTime: .oneMinusS, lossTarget: .velocity,
      timeDistribution: .logitNormal(mean: -0.8, deviation: 0.8), noiseScale: 2)
    model.sampling = .standard(model.network, model.diffusion)
    let trainer = try tinyTrainer(threads: 2, model: model) { $0.emaDecays = [0.9999, 0.9996, 0.5] }
    _ = try trainer.step()
    for step in 2...9 {
      let before = dit_allocations_count()
      _ = try trainer.step()
      let count = dit_allocations_count() - before
      #expect(count == 0, "step \(step): \(count) allocations")
    }
  }

  /// A sampling run of more steps allocates no more than one of fewer; dopri5's steps are not for the caller to choose.
  @Test(
    "A sampling run of more steps allocates no more per step", arguments: SamplerName.allCases.filter { $0 != .dopri5 })
  func samplingSteps(_ name: SamplerName) throws {
    dit_allocations_watch()
    defer { dit_allocations_unwatch() }
    var network = tinyNetwork()
    let isLinear = DiffusionPath.linear.samplers.contains(name)
    network.learnSigma = !isLinear
    let diffusion = DiffusionConfiguration(
      prediction: isLinear ? .flow : .epsilon, variance: isLinear ? .fixedSmall : .learnedRange)
    let model: DiT
    if name == .meanflow {
      (network.conditioning, network.tokenGroups) = (
        .tokens, TokenGroups(classes: 1, omega: 1, tMin: 1, tMax: 1, time: 1)
      )
      let told = DiffusionConfiguration(path: .linear, prediction: .x0, variance: .fixedSmall, networkTime: .s)
      let weights = Weights.initialized(network, seed: 3).weights
      model = try DiT(
        configuration: ModelConfiguration(network: network, diffusion: told), weights: weights,
        context: ComputeContext(threads: 2, workers: 2))
    } else {
      model = try tinyTrainer(threads: 2, model: ModelConfiguration(network: network, diffusion: diffusion))
        .averagedModel()
    }
    func allocations(steps: Int) throws -> Int {
      var options = model.samplingOptions
      options.sampler = Sampler(name, steps: steps)
      options.guidance.scale = 2
      let before = dit_allocations_count()
      _ = try model.sample(.classes([0, 1, 2]), options: options)
      return dit_allocations_count() - before
    }
    _ = try allocations(steps: 10)
    let (few, many) = (try allocations(steps: 20), try allocations(steps: 60))
    // Arrays of timesteps and coefficients grow with the number of steps, a few by doubling; nothing is made in a step.
    #expect(many - few < 20, "\(few) allocations for 20 steps, \(many) for 60")
  }
}

extension AllocationTests {
  /// Made under watch, so that its thread is watched: the second call finds all of its memory there.
  @Test("A session's later calls allocate nothing in their steps")
  func sessionsAllocateNothing() throws {
    dit_allocations_watch()
    defer { dit_allocations_unwatch() }
    let model = try tinyTrainer(threads: 2).averagedModel()
    let session = model.session(batch: 3)
    func allocations(steps: Int) throws -> Int {
      let options = SamplingOptions(sampler: Sampler(.unipc, steps: steps), guidance: Guidance(scale: 2))
      let before = dit_allocations_count()
      _ = try session.sample(.classes([0, 1, 2]), options: options)
      return dit_allocations_count() - before
    }
    _ = try allocations(steps: 10)
    let (few, many) = (try allocations(steps: 20), try allocations(steps: 60))
    #expect(many - few < 20, "\(few) allocations for 20 steps, \(many) for 60")
  }
}
