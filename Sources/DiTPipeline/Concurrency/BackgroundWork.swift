import Dispatch
import Foundation
import Synchronization

/// Work on a thread of its own that tells of its events, for one that waits without holding a thread of Swift's pool.
///
/// The work begins when somebody asks for an event or for the value. While somebody asks for events it runs at most `limit` of
/// them ahead; where somebody waits for the value it does not wait, and the oldest are dropped; where nobody asks, all are. A
/// request to stop is what the next report answers, and drops the events that nobody has taken.
package final class BackgroundWork<Event: Sendable, Value: Sendable>: Sendable {
  /// What the work is given.
  package struct Control {
    /// Tells an event; false asks the work to stop.
    package let report: (Event) -> Bool
    /// Says what to do when the work is asked to stop, at once if it is already; called on the thread of who asks.
    package let onStop: (@escaping @Sendable () -> Void) -> Void
  }

  package typealias Body = @Sendable (_ control: Control) throws -> Value

  private struct State {
    /// Nil once it has begun, or never will.
    var body: Body?
    var isStopped = false
    var stopHandler: (@Sendable () -> Void)?
    /// How many iterators are alive.
    var iterators = 0
    /// Events that nobody has taken yet.
    var events: [Event] = []
    /// Whether the work waits for one of them to be taken; who clears this signals `room`.
    var isFull = false
    var outcome: Result<Value, any Error>?
    /// Who wait for an event, each for one.
    var listeners: [CheckedContinuation<Event?, any Error>] = []
    /// Who wait for the value.
    var readers: [CheckedContinuation<Value, any Error>] = []

    /// Lets the work go on; whether it waited.
    mutating func makeRoom() -> Bool {
      defer { isFull = false }
      return isFull
    }
  }

  private let state: Mutex<State>
  private let room = DispatchSemaphore(value: 0)
  private let name: String
  private let limit: Int

  /// - Parameters:
  ///   - name: the thread's.
  ///   - body: the work; kept until it ends. After a report that answered false it ends by returning or throwing.
  package init(name: String, limit: Int = 4, _ body: @escaping Body) {
    (self.name, self.limit) = (name, limit)
    state = Mutex(State(body: body))
  }

  /// Asks the work to stop; work that has not begun never does, and work that has ended has ended.
  package func stop() {
    let (wakes, handler, neverBegan) = state.withLock { state in
      guard state.outcome == nil else { return (false, nil as (@Sendable () -> Void)?, false) }
      state.isStopped = true
      state.events = []
      let (neverBegan, handler) = (state.body != nil, state.stopHandler)
      (state.body, state.stopHandler) = (nil, nil)
      return (state.makeRoom(), handler, neverBegan)
    }
    if wakes { room.signal() }
    handler?()
    if neverBegan { end(.failure(CancellationError())) }
  }

  private func end(_ outcome: Result<Value, any Error>) {
    let (listeners, readers) = state.withLock { state in
      state.outcome = outcome
      state.stopHandler = nil
      defer { (state.listeners, state.readers) = ([], []) }
      return (state.listeners, state.readers)
    }
    for listener in listeners { listener.resume(with: outcome.map { _ in nil }) }
    for reader in readers { reader.resume(with: outcome) }
  }

  /// The next event; nil after the last.
  ///
  /// - Throws: what the work throws; `CancellationError` where it was stopped, as a canceled task does.
  func next() async throws -> Event? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let (answer, wakes): (Result<Event?, any Error>?, Bool) = state.withLock { state in
          if !state.events.isEmpty { return (.success(state.events.removeFirst()), state.makeRoom()) }
          if let outcome = state.outcome { return (outcome.map { _ in nil }, false) }
          state.listeners.append(continuation)
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
  /// - Throws: what the work throws; `CancellationError` where it was stopped, as a cancelled task does.
  package var value: Value {
    get async throws {
      try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { continuation in
          let (outcome, wakes) = state.withLock { state in
            guard let outcome = state.outcome else {
              state.readers.append(continuation)
              return (nil as Result<Value, any Error>?, state.makeRoom())
            }
            return (outcome, false)
          }
          if wakes { room.signal() }
          if let outcome { continuation.resume(with: outcome) }
          start()
        }
      } onCancel: {
        stop()
      }
    }
  }

  private func start() {
    let body = state.withLock { state in
      defer { state.body = nil }
      return state.body
    }
    guard let body else { return }
    let thread = Thread { [self] in
      end(Result { try body(Control(report: { self.report($0) }, onStop: { self.onStop($0) })) })
    }
    thread.name = name
    thread.stackSize = 8 << 20
    thread.start()
  }

  private func onStop(_ handler: @escaping @Sendable () -> Void) {
    let isStopped = state.withLock { state in
      if !state.isStopped { state.stopHandler = handler }
      return state.isStopped
    }
    if isStopped { handler() }
  }

  /// On the work's thread.
  private func report(_ event: Event) -> Bool {
    let (listener, waits, goesOn) = state.withLock { state in
      guard !state.isStopped, state.iterators > 0 else {
        return (nil as CheckedContinuation<Event?, any Error>?, false, !state.isStopped)
      }
      if !state.listeners.isEmpty { return (state.listeners.removeFirst(), false, true) }
      state.events.append(event)
      guard state.events.count >= limit else { return (nil, false, true) }
      state.isFull = state.readers.isEmpty
      if !state.isFull, state.events.count > limit { state.events.removeFirst() }
      return (nil, state.isFull, true)
    }
    listener?.resume(returning: event)
    guard waits else { return goesOn }
    room.wait()
    return state.withLock { !$0.isStopped }
  }

  fileprivate func count(iterators change: Int) {
    let wakes = state.withLock { state in
      state.iterators += change
      guard state.iterators == 0 else { return false }
      state.events = []
      return state.makeRoom()
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
    work.count(iterators: 1)
  }

  deinit { work.count(iterators: -1) }

  package func next() async throws -> Event? { try await work.next() }
}
