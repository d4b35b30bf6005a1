/// Something whose calls can be timed, ready to run.
protocol Work: AnyObject {
  /// Once.
  func run() throws
}
