import DiTDiffusion
import DiTDistributed
import DiTPipeline
import DiTTensor

// What ranks that train together say to each other, beside their buffers.

/// What a rank has found out about some held-out samples: each network's losses, and the errors of the first one's patches.
struct Measured {
  var losses: [[SampleLoss]]
  var errors: [Float]
}

extension SampleLoss {
  /// Numbers that stand for one.
  static let numbersCount = 6

  /// The terms, 0 for one that there is not, and which there are.
  var numbers: [Double] {
    let terms = [vb, cosine, seq]
    let present = terms.enumerated().reduce(0) { $0 + ($1.element == nil ? 0 : 1 << $1.offset) }
    return [loss, mse] + terms.map { $0 ?? 0 } + [Double(present)]
  }

  init(numbers: ArraySlice<Double>) {
    let (first, present) = (numbers.startIndex, Int(numbers[numbers.startIndex + 5]))
    func term(_ place: Int) -> Double? { present & 1 << place == 0 ? nil : numbers[first + 2 + place] }
    self = .zero
    (loss, mse) = (numbers[first], numbers[first + 1])
    (vb, cosine, seq) = (term(0), term(1), term(2))
  }
}

extension Communicator {
  /// Throws on every rank what one of them has failed with, of several the lowest.
  package func agree(on failure: DiTError?) throws(DiTError) {
    guard size > 1 else {
      if let failure { throw failure }
      return
    }
    let kinds = DiTError.Kind.allCases
    let failed = try gather([failure.flatMap { kinds.firstIndex(of: $0.kind) }.map { Double($0 + 1) } ?? 0])
    guard let first = failed.firstIndex(where: { $0[0] > 0 }) else { return }
    let words = try gather(failure.map { "\($0)" } ?? "")
    if let failure, first == rank { throw failure }
    throw DiTError(
      kinds[Int(failed[first][0]) - 1], DiTError.Subject(.entry("rank \(first)")), problem: words[first],
      cause: FailureElsewhere(rank: first))
  }

  /// Throws unless all ranks have the same model, settings and data, but for how these are read.
  func requireSame(_ model: ModelConfiguration, _ training: TrainingConfiguration, _ data: Dataset) throws(DiTError) {
    guard size > 1 else { return }
    var settings = training
    let free = TrainingConfiguration()
    (settings.brokenImages, settings.cacheMegabytes, settings.loaderThreads) = (
      free.brokenImages, free.cacheMegabytes, free.loaderThreads
    )
    let parts = [
      ("model", model.json.text), ("training settings", settings.json.text), ("data", "\(DataIdentity(data))"),
    ]
    for (name, text) in parts {
      var digest = Digest()
      for byte in text.utf8 { digest.add(UInt64(byte)) }
      try requireSame(Double(digest.value >> 11), "the same \(name) as rank 0's")
    }
  }

  /// Throws unless all ranks have the same number.
  func requireSame(_ number: Double, _ expected: String) throws(DiTError) {
    let all = try gather([number])
    guard let other = all.firstIndex(where: { $0[0] != all[0][0] }) else { return }
    throw DiTError(
      .data, DiTError.Subject(.entry("rank \(other)")), expected: expected,
      found: "others, perhaps of another file or folder")
  }

  /// The losses of all ranks' samples, in the order of the ranks; equally many on each.
  func gather(_ losses: [SampleLoss]) throws(DiTError) -> [SampleLoss] {
    guard size > 1 else { return losses }
    return try gather(losses.flatMap(\.numbers)).flatMap { own in
      stride(from: 0, to: own.count, by: SampleLoss.numbersCount).map {
        SampleLoss(numbers: own[$0..<$0 + SampleLoss.numbersCount])
      }
    }
  }

  /// What every rank has measured, of at most `samples` samples, in the order of the ranks; beyond those that a rank has there are
  /// zeros.
  func gather(_ own: Measured, samples: Int, tokens: Int) throws(DiTError) -> [Measured] {
    guard size > 1 else { return [own] }
    let losses = own.losses.map { $0 + [SampleLoss](repeating: .zero, count: samples - $0.count) }
    let errors = own.errors + [Float](repeating: 0, count: samples * tokens - own.errors.count)
    let numbers = losses.flatMap { $0.flatMap(\.numbers) } + errors.map(Double.init)
    let each = samples * SampleLoss.numbersCount
    return try gather(numbers).map { all in
      let losses = own.losses.indices.map { index in
        stride(from: index * each, to: (index + 1) * each, by: SampleLoss.numbersCount).map {
          SampleLoss(numbers: all[$0..<$0 + SampleLoss.numbersCount])
        }
      }
      return Measured(losses: losses, errors: all[(own.losses.count * each)...].map(Float.init))
    }
  }

  /// Whether it is so on any rank.
  func any(_ own: Bool) throws(DiTError) -> Bool {
    guard size > 1 else { return own }
    return try gather([own ? 1.0 : 0]).contains { $0[0] == 1 }
  }

  /// What only the first rank does; where it fails, all do.
  ///
  /// - Returns: nil on the other ranks.
  func onFirst<Result>(_ body: () throws -> Result) throws -> Result? {
    guard size > 1 else { return try body() }
    var (result, failure): (Result?, (any Error)?) = (nil, nil)
    if isFirst {
      do { result = try body() } catch { failure = error }
    }
    try agree(on: failure.map { ($0 as? DiTError) ?? DiTError(.output, DiTError.Subject(), problem: "\($0)") })
    return result
  }
}
