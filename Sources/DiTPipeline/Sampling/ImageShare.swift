import DiTTensor

/// Which of the images of a larger run one process makes: every `count`-th, from number `index` on. Each is what it is in the whole
/// run, as its noise depends on its number there alone.
public struct ImageShare: Equatable, Sendable, CustomStringConvertible {
  /// 0 … `count` − 1.
  public let index: Int
  public let count: Int

  /// All images.
  public static let whole = ImageShare(index: 0, of: 1)

  /// - Precondition: `index` is from 0 to `count` − 1.
  public init(index: Int, of count: Int) {
    precondition(0..<max(count, 0) ~= index, "share \(index) of \(count)")
    (self.index, self.count) = (index, count)
  }

  /// `i/n`, i from 0 to n − 1; nil where the text is anything else.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let index = parts[0], let count = parts[1], count > 0, 0..<count ~= index else {
      return nil
    }
    self.init(index: index, of: count)
  }

  /// `i/n`.
  public var description: String { "\(index)/\(count)" }

  /// What a text is to be.
  package static let expectation = "i/n with i from 0 to n−1"

  /// The numbers in the whole run, of `total` images, of those of this share.
  public func numbers(of total: Int) -> [Int] { Array(stride(from: index, to: total, by: count)) }

  /// The number in the whole run of image n of this share.
  func number(_ n: Int) -> Int { index + n * count }
}
