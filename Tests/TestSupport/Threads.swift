import Foundation

extension Thread {
  /// Starts a thread of its own (not one of the test runner's), whose end `group` waits for.
  @discardableResult public convenience init(_ group: DispatchGroup, _ body: @escaping @Sendable () -> Void) {
    group.enter()
    self.init {
      body()
      group.leave()
    }
    start()
  }
}
