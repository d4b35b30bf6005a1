import DiTTensor

// Samples in an order that is known ahead, from memory or read in the background.

/// The same samples again and again.
struct ListOrder: SampleOrder {
  let samples: [Int]

  func sample(_ number: Int) -> Int { samples[number % samples.count] }
}

/// A data set in an order. Any number may be asked for, but only the one after the last is read ahead.
final class SampleReader {
  let data: Dataset
  private var order: any SampleOrder
  private let end: Int
  private let threads: Int
  private var stream: SampleStream?
  /// The numbers that `stream` still has.
  private var ahead = 0..<0

  /// - Parameters:
  ///   - end: the number after the last that will probably be asked for.
  ///   - threads: that read ahead where the data are not in memory.
  init(_ data: Dataset, order: any SampleOrder, end: Int, threads: Int) {
    self.data = data
    self.order = order
    self.end = end
    self.threads = threads
  }

  /// The data set's index of the `number`-th sample.
  func index(_ number: Int) -> Int { order.sample(number) }

  /// Writes the `number`-th sample to the start of `target`, mirrored left to right when `flipped`.
  ///
  /// - Throws: `DiTError` where it cannot be read.
  func copy(_ number: Int, flipped: Bool, into target: inout MutableSpan<Float>) throws(DiTError) {
    guard case .source(let source) = data.elements else {
      return data.copy(index(number), flipped: flipped, into: &target)
    }
    let stream = stream(at: number, source)
    do throws(DiTError) {
      try stream.take(number, flipped: flipped, into: &target)
    } catch {
      self.stream = nil
      throw error
    }
    ahead = number + 1..<ahead.upperBound
  }

  private func stream(at number: Int, _ source: any ImageSource) -> SampleStream {
    if let stream, ahead.first == number { return stream }
    ahead = number..<(number < end ? end : .max)
    let stream = SampleStream(source, order: order, from: number, to: ahead.upperBound, threads: threads)
    self.stream = stream
    return stream
  }
}
