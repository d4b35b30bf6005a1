/// The shape (N, C, H, W) of a batch of noised inputs; row-major, one sample after the other.
///
/// The network's output for it is (N, C', H, W), C' = C or 2C: within a sample the C channels of ε come first, then
/// those of the variance interpolation v.
public struct BatchShape: Equatable, Sendable, CustomStringConvertible {
  public var samples: Int
  public var channels: Int
  public var height: Int
  public var width: Int

  public init(samples: Int, channels: Int, height: Int, width: Int) {
    precondition(
      samples > 0 && channels > 0 && height > 0 && width > 0,
      "every dimension is at least 1, found (\(samples), \(channels), \(height), \(width))")
    self.samples = samples
    self.channels = channels
    self.height = height
    self.width = width
  }

  /// H·W.
  public var area: Int { height * width }
  /// C·H·W.
  public var elementsPerSample: Int { channels * area }
  /// N·C·H·W.
  public var count: Int { samples * elementsPerSample }

  /// Elements of the network's output, N·C'·H·W.
  public func outputCount(_ variance: Variance) -> Int { samples * variance.outputChannels(channels) * area }

  public var description: String { "(\(samples), \(channels), \(height), \(width))" }

  /// Traps unless `count` elements are what `name` needs.
  func require(_ name: String, _ count: Int, is expected: Int) {
    precondition(count == expected, "\(name) has \(count) elements, a batch \(self) needs \(expected)")
  }
}
