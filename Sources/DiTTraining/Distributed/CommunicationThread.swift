import DiTTensor
import Foundation

/// A thread that does one thing after another while its caller goes on, such as to send what is ready.
package final class CommunicationThread {
  package typealias Work = () throws(DiTError) -> Void

  private let queue = Queue()

  package init() {
    let thread = Thread { [queue] in queue.run() }
    thread.name = "dit-exchange"
    thread.stackSize = 1 << 20
    thread.start()
  }

  deinit { queue.close() }

  /// Has something done after what came before. Once something has failed nothing is done any more: other processes may wait in other
  /// calls.
  ///
  /// - Returns: a number for ``wait(for:)``.
  @discardableResult
  package func add(_ work: @escaping Work) -> Int { queue.add(work) }

  /// Waits until something is done, or was left out after a failure.
  package func wait(for number: Int) { queue.wait(for: number) }

  /// Waits until all is done.
  ///
  /// - Throws: what failed first.
  package func wait() throws(DiTError) { try queue.wait() }

  private final class Queue: @unchecked Sendable {
    private let condition = NSCondition()
    private var works: [Work] = []
    private var added = 0
    private var done = 0
    private var isClosed = false
    private var failure: DiTError?

    func add(_ work: @escaping Work) -> Int {
      condition.withLock {
        works.append(work)
        added += 1
        condition.broadcast()
        return added
      }
    }

    func wait(for number: Int) {
      condition.withLock {
        while done < number { condition.wait() }
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
      while done < added { condition.wait() }
      if let failure { throw failure }
    }

    func run() {
      condition.lock()
      defer { condition.unlock() }
      while true {
        while works.isEmpty && !isClosed { condition.wait() }
        guard !works.isEmpty else { return }
        var work: Work? = works.removeFirst()
        let isLeftOut = failure != nil
        condition.unlock()
        let problem = isLeftOut ? nil : work.flatMap(Self.problem)
        work = nil  // with what it holds, which may be the last to hold this queue's owner
        condition.lock()
        failure = failure ?? problem
        done += 1
        condition.broadcast()
      }
    }

    private static func problem(of work: Work) -> DiTError? {
      do throws(DiTError) {
        try work()
        return nil
      } catch {
        return error
      }
    }
  }
}
