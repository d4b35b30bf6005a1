import DiTPipeline

/// A training run as a sequence of its events, on a thread of its own.
///
///     let training = TrainingEvents(try TrainingRun(starting: trainer, in: "runs/mine"))
///     for try await event in training {
///       if case .logged(let report, _) = event { print(report.step, report.loss) }
///     }
///     print(try await training.outcome)
///
/// Nothing is trained before somebody asks for an event or for the outcome. When the task that waits is cancelled the run saves
/// after the step at hand, as for a request to stop, and then `CancellationError` is thrown: it can be resumed. A loop that is
/// left early leaves the run going, for ``outcome``; a run that nobody holds any more saves and stops.
public final class TrainingEvents: AsyncSequence, Sendable {
  public typealias Element = TrainingEvent
  public typealias Failure = any Error

  private let work: BackgroundWork<TrainingEvent, TrainingOutcome>

  /// A run that its thread alone uses: it came as `sending`, and the work is done once.
  private struct HandedOver: @unchecked Sendable {
    let run: TrainingRun
  }

  /// - Parameter run: handed over: nobody else uses it any more.
  public init(_ run: sending TrainingRun) {
    let handed = HandedOver(run: run)
    work = BackgroundWork(name: "dit training") { control in
      var goesOn = true
      let outcome = try handed.run.run(shouldStop: { !goesOn }, report: { goesOn = control.report($0) && goesOn })
      if case .interrupted = outcome { throw CancellationError() }
      return outcome
    }
  }

  deinit { work.stop() }

  /// How the run ended; divergence is a value, not an error.
  ///
  /// - Throws: as ``TrainingRun/run(shouldStop:report:)``; `CancellationError` where it was stopped.
  public var outcome: TrainingOutcome {
    get async throws { try await work.value }
  }

  /// Saves and stops after the step at hand.
  public func cancel() { work.stop() }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(run: self, events: work.makeAsyncIterator()) }

  /// The events, one after the other.
  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let run: TrainingEvents
    fileprivate let events: BackgroundIterator<TrainingEvent, TrainingOutcome>

    public mutating func next() async throws -> TrainingEvent? { try await events.next() }
  }
}
