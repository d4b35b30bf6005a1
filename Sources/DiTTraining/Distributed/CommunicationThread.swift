import DiTTensor
import Foundation

/// A thread that does one thing after another while its caller goes on, such as to send what is ready.
final class CommunicationThread {
  typealias Work = () throws(DiTError) -> Void

  private let queue = Queue()

  init() {
    let thread = Thread { [queue] in queue.run() }
    thread.name = "dit-exchange"
    thread.stackSize = 1 << 20
    thread.start()
  }

  deinit { queue.close() }

  /// Has something done after what came before. Once something has failed nothing is done until that was thrown.
  func add(_ work: @escaping Work) { queue.add(work) }

  /// Waits until all is done.
  ///
  /// - Throws: what failed first.
  func wait() throws(DiTError) { try queue.wait() }

  private final class Queue: @unchecked Sendable {
    private let condition = NSCondition()
    private var works: [Work] = []
    private var isBusy = false
    private var isClosed = false
    private var failure: DiTError?

    func add(_ work: @escaping Work) {
      condition.withLock {
        works.append(work)
        condition.broadcast()
      }
    }

    func close() {
      condition.withLock {
        isClosed = true
        condition.broadcast()
      }
    }

    func wait() throws(DiTError) {
      condition.lock()
      defer { condition.unlock() }
      while isBusy || !works.isEmpty { condition.wait() }
      guard let failure else { return }
      self.failure = nil
      throw failure
    }

    func run() {
      condition.lock()
      defer { condition.unlock() }
      while true {
        while works.isEmpty && !isClosed { condition.wait() }
        guard !works.isEmpty else { return }
        let work = works.removeFirst()
        guard failure == nil else {
          condition.broadcast()
          continue
        }
        isBusy = true
        condition.unlock()
        let problem: DiTError?
        do throws(DiTError) {
          try work()
          problem = nil
        } catch {
          problem = error
        }
        condition.lock()
        isBusy = false
        failure = failure ?? problem
        condition.broadcast()
      }
    }
  }
}
