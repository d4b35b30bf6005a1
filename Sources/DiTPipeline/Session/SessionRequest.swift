import DiTDiffusion
import DiTModel
import DiTTensor
import Dispatch
import Synchronization

/// What one call asks of a session: N images, each by itself.
///
/// What does not change is read by any thread; what the session's thread alone uses says so; what goes between that and the
/// caller is in `mail`.
final class SessionRequest: @unchecked Sendable {
  /// What is done with each image.
  struct Plan {
    let process: any SamplingProcess
    /// The network times of the evaluations, and whether each needs the unconditional pass too.
    let times: [NetworkTime]
    let isGuided: [Bool]
    /// What the network embeds at each evaluation, `inputsPerTime` numbers each.
    let told: [Float]
    let guidance: Guidance
    let seed: UInt64
    let share: ImageShare
    /// One per image; empty for an unconditional model.
    let labels: [Int]
    let sequence: SequenceInput?
    let start: Start
    /// The level of noise that the images start from.
    let level: (signal: Double, spread: Double)
    let known: KnownPart?
  }

  /// What a caller waits for.
  private struct Mail {
    var events: [SamplingProgress] = []
    var isListening: Bool
    var result: Result<Samples, any Error>?
    var isStopped = false
  }

  let plan: Plan
  let count: Int
  let result: MutableFloatSlice
  let imageShape: [Int]
  private let mail: Mutex<Mail>
  private let arrived = DispatchSemaphore(value: 0)

  // The session's thread alone.
  /// Embedded when the first image begins.
  var tokens: SequenceTokens?
  var next = 0
  var isDone: [Bool]
  var completedSteps = 0
  var evaluatedImages = 0

  /// Events that a slow caller has not taken, at most.
  private static let limit = 4

  init(_ plan: Plan, count: Int, imageShape: [Int], isListening: Bool) {
    (self.plan, self.count, self.imageShape) = (plan, count, imageShape)
    result = MutableFloatSlice(zeros: count * imageShape.reduce(1, *))
    isDone = [Bool](repeating: false, count: count)
    mail = Mutex(Mail(isListening: isListening))
  }

  var isStopped: Bool { mail.withLock { $0.isStopped } }
  var isListening: Bool { mail.withLock { $0.isListening } }

  /// The session leaves the request after the steps at hand.
  func stop() { mail.withLock { $0.isStopped = true } }

  /// On the session's thread. Where the caller is slow, the oldest is dropped.
  func tell(_ event: SamplingProgress) {
    let isNew = mail.withLock { mail in
      mail.events.append(event)
      guard mail.events.count > Self.limit else { return true }
      mail.events.removeFirst()
      return false
    }
    if isNew { arrived.signal() }
  }

  /// On the session's thread: all images are done, or the first `finished` of a request that was stopped.
  func finish(_ outcome: Result<Int, any Error>) {
    let samples = outcome.map { finished in
      Samples(
        images: Tensor(shape: [count] + imageShape, elements: result.array).prefix(finished),
        labels: Array(plan.labels.prefix(finished)), isComplete: finished == count)
    }
    mail.withLock { $0.result = samples }
    arrived.signal()
  }

  /// Waits on the caller's thread, telling of each event; false stops.
  func wait(_ progress: (SamplingProgress) throws -> Bool) throws -> Samples {
    var goesOn = true
    while true {
      arrived.wait()
      let (event, result) = mail.withLock { mail in
        mail.events.isEmpty ? (nil, mail.result) : (mail.events.removeFirst(), nil)
      }
      if let event {
        guard goesOn else { continue }
        do {
          goesOn = try progress(event)
          if !goesOn { stop() }
        } catch {
          stop()
          throw error
        }
      } else if let result {
        return try result.get()
      }
    }
  }
}
