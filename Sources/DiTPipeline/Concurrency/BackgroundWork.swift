import Dispatch
import Foundation
import Synchronization

/// Work on a thread of its own that tells of its events, for one that waits without holding a thread of Swift's pool.
///
/// The work begins when somebody asks for an event or for the value. While somebody asks for events it runs at most `limit` of
/// them ahead; else they are dropped. A request to stop is what the next report answers.
package final class BackgroundWork<Event: Sendable, Value: Sendable>: Sendable {
  /// Tells an event; false asks the work to stop.
  package typealias Report = (Event) -> Bool

  private struct State {
    var isStarted = false
    var isStopped = false
    /// How many iterators are alive.
    var listeners = 0
    /// Events that nobody has taken yet.
    var events: [Event] = []
    /// Whether the work waits for one of them to be taken.
    var isFull = false
    var outcome: Result<Value, any Error>?
    /// Who waits for an event.
    var listener: CheckedContinuation<Event?, any Error>?
    /// Who wait for the value.
    var readers: [CheckedContinuation<Value, any Error>] = []
  }

  private let state = Mutex(State())
  private let room = DispatchSemaphore(value: 0)
  private let name: String
  private let limit: Int
  private let body: @Sendable (_ report: Report) throws -> Value

  /// - Parameters:
  ///   - name: the thread's.
  ///   - body: the work. After a report that answered false it ends by returning or throwing.
  package init(
    name: String, limit: Int = 4, _ body: @escaping @Sendable (_ report: Report) throws -> Value
  ) {
    (self.name, self.limit, self.body) = (name, limit, body)
  }

  /// Asks the work to stop; work that has not begun never does.
  package func stop() {
    let (wakes, listener, readers) = state.withLock { state in
      state.isStopped = true
      let wakes = state.isFull
      state.isFull = false
      var waiting: (CheckedContinuation<Event?, any Error>?, [CheckedContinuation<Value, any Error>]) = (nil, [])
      if !state.isStarted {
        state.isStarted = true
        state.outcome = .failure(CancellationError())
        waiting = (state.listener, state.readers)
        (state.listener, state.readers) = (nil, [])
      }
      return (wakes, waiting.0, waiting.1)
    }
    if wakes { room.signal() }
    listener?.resume(throwing: CancellationError())
    for reader in readers { reader.resume(throwing: CancellationError()) }
  }

  /// The next event; nil after the last.
  ///
  /// - Throws: what the work throws; `CancellationError` where the task was cancelled, after what was at hand.
  func next() async throws -> Event? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let (answer, wakes): (Result<Event?, any Error>?, Bool) = state.withLock { state in
          if !state.events.isEmpty, !state.isStopped {
            let event = state.events.removeFirst()
            defer { state.isFull = false }
            return (.success(event), state.isFull)
          }
          if let outcome = state.outcome { return (outcome.map { _ in nil }, false) }
          precondition(state.listener == nil, "two tasks that iterate over one run")
          state.listener = continuation
          return (nil, false)
        }
        if wakes { room.signal() }
        if let answer { continuation.resume(with: answer) }
        start()
      }
    } onCancel: {
      stop()
    }
  }

  /// What the work comes to.
  ///
  /// - Throws: what the work throws; `CancellationError` where the task was cancelled.
  package var value: Value {
    get async throws {
      try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { continuation in
          let outcome = state.withLock { state in
            if state.outcome == nil { state.readers.append(continuation) }
            return state.outcome
          }
          if let outcome { continuation.resume(with: outcome) }
          start()
        }
      } onCancel: {
        stop()
      }
    }
  }

  private func start() {
    let begins = state.withLock { state in
      defer { state.isStarted = true }
      return !state.isStarted
    }
    guard begins else { return }
    let thread = Thread { [self] in
      let result = Result { try body { report($0) } }
      let (listener, readers) = state.withLock { state in
        state.outcome = result
        defer { (state.listener, state.readers) = (nil, []) }
        return (state.listener, state.readers)
      }
      listener?.resume(with: result.map { _ in nil })
      for reader in readers { reader.resume(with: result) }
    }
    thread.name = name
    thread.stackSize = 8 << 20
    thread.start()
  }

  /// On the work's thread.
  private func report(_ event: Event) -> Bool {
    let (listener, waits, goesOn) = state.withLock { state in
      guard !state.isStopped, state.listeners > 0 else {
        return (nil as CheckedContinuation<Event?, any Error>?, false, !state.isStopped)
      }
      if let listener = state.listener {
        state.listener = nil
        return (listener, false, true)
      }
      state.events.append(event)
      state.isFull = state.events.count >= limit
      return (nil, state.isFull, true)
    }
    listener?.resume(returning: event)
    guard waits else { return goesOn }
    room.wait()
    return state.withLock { !$0.isStopped }
  }

  fileprivate func listen(_ change: Int) {
    let wakes = state.withLock { state in
      state.listeners += change
      guard state.listeners == 0 else { return false }
      state.events = []
      defer { state.isFull = false }
      return state.isFull
    }
    if wakes { room.signal() }
  }

  package func makeAsyncIterator() -> BackgroundIterator<Event, Value> { BackgroundIterator(self) }
}

/// Asks for one event after the other. When it goes, nobody asks any more, and the work runs on by itself.
package final class BackgroundIterator<Event: Sendable, Value: Sendable> {
  private let work: BackgroundWork<Event, Value>

  fileprivate init(_ work: BackgroundWork<Event, Value>) {
    self.work = work
    work.listen(1)
  }

  deinit { work.listen(-1) }

  package func next() async throws -> Event? { try await work.next() }
}
