import Foundation

/// How sure a classifier is of each picture, and how unsure of all: exp of the mean over pictures of KL(p(class | picture) ‖ p(class)).
///
/// Source: Salimans et al., "Improved Techniques for Training GANs" (2016). The score is that of each of ten parts of the pictures, in
/// their order, and the mean over these, as is the custom: it grows with the pictures in a part. Of fewer than 20 pictures there are
/// fewer parts, of two pictures or more.
public struct InceptionScore: Equatable, Sendable {
  /// Of the parts.
  public let mean: Double
  /// Over the parts, of all of them (not n − 1).
  public let standardDeviation: Double
  public let parts: Int

  static let mostParts = 10

  /// - Parameter logits: a number for each class and picture, (N, classes).
  /// - Throws: `DiTError` where they can no longer be read.
  public init(_ logits: SampleSet) throws {
    parts = max(1, min(Self.mostParts, logits.count / 2))
    var scores: [Double] = []
    for part in 0..<parts {
      scores.append(
        try Self.score(logits, part * logits.count / parts..<(part + 1) * logits.count / parts))
    }
    let mean = scores.reduce(0, +) / Double(parts)
    self.mean = mean
    standardDeviation = (scores.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(parts)).squareRoot()
  }

  /// Mean KL = mean over pictures of Σ p log p, less Σ p̄ log p̄.
  private static func score(_ logits: SampleSet, _ range: Range<Int>) throws -> Double {
    let classes = logits.depth
    var sums = [Double](repeating: 0, count: classes)
    var inner = 0.0
    for start in stride(from: range.lowerBound, to: range.upperBound, by: 256) {
      let block = start..<min(range.upperBound, start + 256)
      let values = try logits.elements(block)
      for row in 0..<block.count {
        let x = values[row * classes..<(row + 1) * classes]
        let greatest = Double(x.max() ?? 0)
        let exponentials = x.map { exp(Double($0) - greatest) }
        let sum = exponentials.reduce(0, +)
        for (place, value) in exponentials.enumerated() {
          let p = value / sum
          sums[place] += p
          if p > 0 { inner += p * log(p) }
        }
      }
    }
    let n = Double(range.count)
    let outer = sums.reduce(0) { $1 > 0 ? $0 + $1 / n * log($1 / n) : $0 }
    return exp(inner / n - outer)
  }
}
