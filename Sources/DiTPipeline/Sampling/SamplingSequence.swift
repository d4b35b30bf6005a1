import DiTTensor
import Synchronization

/// A run of sampling as a sequence of its steps, on a thread of its own.
///
///     let run = model.sampling(.classes([207, 360]))
///     for try await step in run { print(step.completedSteps, "of", step.totalSteps) }
///     let samples = try await run.samples
///
/// Nothing is computed before somebody asks for a step or for the samples. Each step is a value of its own, whose images and
/// estimate are made when they are asked for. When the task that waits is cancelled, `CancellationError` is thrown after the
/// step at hand, and ``finished`` has the images that were done. A loop that is left early leaves the run going, for
/// ``samples``; a run that nobody holds any more stops. Of several loops over one run each gets some of the steps; whoever
/// waits for the samples meanwhile lets the run go on, and steps that nobody takes in time are then not told.
public final class SamplingSequence: AsyncSequence, Sendable {
  public typealias Element = SamplingProgress
  public typealias Failure = any Error

  private let work: BackgroundWork<SamplingProgress, Samples>
  private let done: Done

  /// The images that are done, as the run's thread leaves them.
  private final class Done: Sendable {
    let samples = Mutex<Samples?>(nil)
  }

  /// - Parameter sample: makes the samples, or the first ones that are done where it was asked to stop.
  init(
    name: String,
    _ sample: @escaping @Sendable (BackgroundWork<SamplingProgress, Samples>.Control) throws -> Samples
  ) {
    let done = Done()
    self.done = done
    work = BackgroundWork(name: name) { control in
      let samples = try sample(control)
      done.samples.withLock { $0 = samples }
      guard samples.isComplete else { throw CancellationError() }
      return samples
    }
  }

  deinit { work.stop() }

  /// The samples, when all steps are taken.
  ///
  /// - Throws: as ``DiT/sample(_:options:start:inpainting:progress:)``; `CancellationError` where the run was stopped.
  public var samples: Samples {
    get async throws { try await work.value }
  }

  /// The images whose steps are all taken, when the run has ended: all of them, or the first ones of a run that was stopped; nil
  /// before, and after another error.
  public var finished: Samples? { done.samples.withLock { $0 } }

  /// Stops after the step at hand.
  public func cancel() { work.stop() }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(run: self, events: work.makeAsyncIterator()) }

  /// The steps, one after the other.
  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let run: SamplingSequence
    fileprivate let events: BackgroundIterator<SamplingProgress, Samples>

    public mutating func next() async throws -> SamplingProgress? { try await events.next() }
  }
}

extension DiT {
  /// Images of a condition, as ``sample(_:options:start:inpainting:progress:)`` makes them, as a sequence of steps.
  ///
  /// Errors in what is asked for are thrown by the first step.
  public func sampling(
    _ condition: Condition, options: SamplingOptions? = nil, start: Start = .noise, inpainting: Inpainting? = nil
  ) -> SamplingSequence {
    SamplingSequence(name: "dit sampling") { control in
      var finished = 0
      let samples = try sample(condition, options: options, start: start, inpainting: inpainting) { step in
        if step.step == step.steps { finished = step.images.upperBound }
        return control.report(step.snapshot())
      }
      return samples.isComplete ? samples : samples.first(finished)
    }
  }
}

extension SamplingProgress {
  /// The same with memory of its own.
  func snapshot() -> SamplingProgress {
    SamplingProgress(
      step: step, steps: steps, time: time, images: images, count: count, completedSteps: completedSteps,
      totalSteps: totalSteps, evaluatedImages: evaluatedImages, shape: shape, elements: FloatSlice(elements.array),
      schedule: schedule, evaluation: evaluation?.snapshot())
  }
}

extension LastEvaluation {
  fileprivate func snapshot() -> LastEvaluation {
    LastEvaluation(
      shape: shape, x: FloatSlice(x.array), outputs: FloatSlice(outputs.array), guidance: guidance, reading: reading)
  }
}

extension Samples {
  /// The first images.
  ///
  /// - Precondition: there are so many.
  fileprivate func first(_ count: Int) -> Samples {
    Samples(images: images.prefix(count), labels: Array(labels.prefix(count)), isComplete: isComplete)
  }
}
