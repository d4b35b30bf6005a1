// The prior that L_seq of a run compares with.

import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTPipeline
import DiTTensor

extension TrainingConfiguration {
  /// The prior of a run: the given one, else one fitted to the samples that are trained on, as they stand (not mirrored);
  /// nil without λ_seq.
  ///
  /// - Throws: `DiTError` on a linear path, and when the network's grid can have none, and when a sample cannot
  ///   be read.
  func sequencePrior(
    _ given: SequencePrior?, _ model: ModelConfiguration, _ data: Dataset, _ samples: [Int], _ context: ComputeContext
  ) throws -> SequencePrior? {
    guard lambdaSeq > 0 else { return nil }
    guard model.diffusion.path.hasPosterior else {
      throw DiTError(
        file: "training configuration", key: "lambda_seq", expected: "0 on a linear path, which has no x_{t−1}",
        found: "\(lambdaSeq)")
    }
    let grid = model.network.inputGrid
    do throws(DiTError) {
      try grid.checkSequence()
    } catch {
      throw error.about(file: "training configuration", .key(error.name), .configuration)
    }
    if let given {
      precondition(given.grid == grid, "a prior of \(given.grid) for \(grid)")
      return given
    }
    // The fit asks for all samples twice, in order.
    let reader = SampleReader(
      data, order: ListOrder(samples: samples), end: 2 * samples.count, threads: loaderThreads)
    var number = 0
    return try SequencePrior(fitting: samples.count, of: grid, context: context) { index, image in
      precondition(number % samples.count == index, "sample \(index) as the \(number)-th")
      try reader.copy(number, flipped: false, into: &image)
      number += 1
    }
  }
}
