/// Which source pixels the results of one axis are made of.
struct Resampling {
  /// A source pixel and its part in a result.
  struct Tap: Equatable {
    var source: Int
    var weight: Float
  }

  /// Results.
  let count: Int
  /// Source pixels with a part in any result.
  let sources: Range<Int>
  private let taps: [Tap]
  private let starts: [Int]  // result i has the taps starts[i]..<starts[i+1]

  /// The middle `ratio`·`count` of `length` source pixels, `ratio` of them per result; `length` may end inside a pixel.
  ///
  /// From 1 up results are means over the interval they cover; below they are bilinear between pixel centers. Where nothing
  /// is resized the odd pixel is cut off at the end; at the beginning where the axis `isReversed`, which is turned later.
  init(from length: Double, to count: Int, ratio: Double, isReversed: Bool = false) {
    let slack = (length - ratio * Double(count)) / 2
    let origin = ratio == 1 ? slack.rounded(isReversed ? .up : .down) : slack
    let pixels = Int(length.rounded(.up))
    var taps: [Tap] = []
    var starts = [0]
    for index in 0..<count {
      let start = origin + ratio * Double(index)
      taps += ratio >= 1 ? Self.area(start, start + ratio, pixels) : Self.bilinear(start + (ratio - 1) / 2, pixels)
      starts.append(taps.count)
    }
    let used = taps.map(\.source)
    self.count = count
    self.taps = taps
    self.starts = starts
    sources = used.min()!..<used.max()! + 1
  }

  /// What result `index` is made of, weights adding up to 1.
  func taps(_ index: Int) -> ArraySlice<Tap> { taps[starts[index]..<starts[index + 1]] }

  /// Writes the results of a line, whose first pixel is the first of ``sources``: weighted sums in Float, rounded half up.
  func write(_ line: [Float], channels: Int, to result: inout [UInt8], at start: Int) {
    for index in 0..<count {
      for channel in 0..<channels {
        var sum: Float = 0
        for tap in taps(index) { sum += tap.weight * line[(tap.source - sources.lowerBound) * channels + channel] }
        result[start + index * channels + channel] = UInt8(min(255, max(0, sum + 0.5)))
      }
    }
  }

  /// The part of each pixel in [start, end), pixel i being [i, i+1).
  private static func area(_ start: Double, _ end: Double, _ length: Int) -> [Tap] {
    let (first, last) = (max(0, Int(start)), min(length - 1, Int(end)))
    let parts = (first...last).map { (pixel: $0, part: min(end, Double($0 + 1)) - max(start, Double($0))) }
    let kept = parts.filter { $0.part > 1e-9 }  // less is the rounding of start and end
    let total = kept.reduce(0) { $0 + $1.part }
    return kept.map { Tap(source: $0.pixel, weight: Float($0.part / total)) }
  }

  /// The two pixels around a position, pixel i's center being at i; beyond the border it is repeated.
  private static func bilinear(_ position: Double, _ length: Int) -> [Tap] {
    let inside = min(max(position, 0), Double(length - 1))
    let first = Int(inside)
    let part = Float(inside - Double(first))
    guard part > 0 else { return [Tap(source: first, weight: 1)] }
    return [Tap(source: first, weight: 1 - part), Tap(source: first + 1, weight: part)]
  }
}
