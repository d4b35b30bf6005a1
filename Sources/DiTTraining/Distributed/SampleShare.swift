import DiTTensor

/// Which of a run's samples, counted as they are drawn, a rank reads: of every batch the same part.
struct SampleShare: Equatable, Sendable {
  let batch: Int
  /// Of each batch.
  let range: Range<Int>

  /// Samples of a batch.
  var count: Int { range.count }

  /// - Precondition: P divides the batch.
  init(batch: Int, rank: Int, size: Int) {
    precondition(batch % size == 0, "a batch of \(batch) for \(size) ranks")
    self.batch = batch
    range = rank * (batch / size)..<(rank + 1) * (batch / size)
  }

  /// The place among the rank's own samples of the `number`-th of all.
  ///
  /// - Precondition: it is the rank's.
  func place(of number: Int) -> Int {
    let (step, inBatch) = number.quotientAndRemainder(dividingBy: batch)
    precondition(range.contains(inBatch), "sample \(inBatch) of a batch, of which this rank has \(range)")
    return step * count + inBatch - range.lowerBound
  }

  /// The number among all of the rank's own sample at a place.
  func number(at place: Int) -> Int {
    let (step, inShare) = place.quotientAndRemainder(dividingBy: count)
    return step * batch + range.lowerBound + inShare
  }
}

/// A rank's samples of an order.
struct SharedOrder<Order: SampleOrder>: SampleOrder {
  private var order: Order
  private let share: SampleShare

  init(_ order: Order, _ share: SampleShare) { (self.order, self.share) = (order, share) }

  mutating func sample(_ place: Int) -> Int { order.sample(share.number(at: place)) }
}
