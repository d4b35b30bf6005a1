/// The cause of an error that another rank has had, of which this one was told.
public struct FailureElsewhere: Equatable, Sendable {
  public let rank: Int

  package init(rank: Int) { self.rank = rank }
}
