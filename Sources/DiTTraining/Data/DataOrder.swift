// Which sample comes when, and every random number of a run. All of it follows from (seed, number of the sample drawn),
// so that threads and micro-batches change nothing, and two integers resume a run.

import DiTTensor

/// The purposes of a run's random streams: the top byte of the stream's number. A new network's tensors are drawn from
/// streams 0, 1, … of the same seed, below all of these.
enum StreamPurpose: UInt64 {
  /// Index: the epoch.
  case order = 1
  /// t, label dropout and flip. Index: the number of the sample drawn.
  case choices = 2
  /// ε. Index: the number of the sample drawn.
  case noise = 3
  /// A re-made label table. Index: 0.
  case labels = 4
  /// A re-made tensor of a conditioning sequence. Index: its offset.
  case sequence = 5
  /// The draw of x_{t−1} from the posterior, for L_seq. Index: the number of the sample drawn.
  case posterior = 6
  /// The key of what is dropped inside the blocks. Index: the number of the sample drawn.
  case dropout = 7

  func stream(_ index: Int, seed: UInt64) -> Philox {
    Philox(seed: seed, stream: rawValue << 56 | UInt64(index))
  }
}

/// Which sample comes when.
package protocol SampleOrder: Sendable {
  /// The data set's index of the `number`-th sample, from 0. Allocates nothing.
  mutating func sample(_ number: Int) -> Int
}

/// The samples a run trains on, epoch after epoch in a fresh order. A batch that reaches the end of an epoch goes on
/// with the next.
package struct DataOrder: SampleOrder {
  private let seed: UInt64
  /// The samples of the data set that are trained on, ascending.
  package let samples: [Int]
  private var order: [Int]
  private var epoch = -1

  /// - Parameter samples: not empty.
  package init(samples: [Int], seed: UInt64) {
    precondition(!samples.isEmpty, "an order of no samples")
    self.samples = samples
    self.seed = seed
    order = samples
  }

  /// The data set's index of the `number`-th sample drawn since the run began. Allocates nothing.
  package mutating func sample(_ number: Int) -> Int {
    let (wanted, position) = number.quotientAndRemainder(dividingBy: samples.count)
    if wanted != epoch { shuffle(wanted) }
    return order[position]
  }

  /// Fisher–Yates from the ascending order, so that an epoch's order does not depend on the one before.
  private mutating func shuffle(_ wanted: Int) {
    var random = StreamPurpose.order.stream(wanted, seed: seed)
    for i in samples.indices { order[i] = samples[i] }
    for i in stride(from: order.count - 1, to: 0, by: -1) { order.swapAt(i, random.index(below: i + 1)) }
    epoch = wanted
  }
}

/// The held-out split: with modulus M, every sample i with i mod M = M − 1; with 0 none.
package struct Split {
  package let training: [Int]
  package let validation: [Int]

  package init(_ data: Dataset, modulus: Int) throws(DiTError) {
    let isHeldOut = { (i: Int) in modulus > 0 && i % modulus == modulus - 1 }
    training = (0..<data.count).filter { !isHeldOut($0) }
    validation = (0..<data.count).filter(isHeldOut)
    guard !training.isEmpty else {
      throw DiTError(data: data.name, nil, .nothingToTrain(count: data.count, modulus: modulus))
    }
  }
}
