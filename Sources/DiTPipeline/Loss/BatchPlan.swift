import DiTModel

/// How many images run at once. It depends on the network alone, never on the machine, so that results do not either.
enum BatchPlan {
  /// Images at once, at most.
  static let maximumImages = 64
  /// Bytes that activations and modulation rows may take, about; one image may take more.
  static let maximumBytes = 1 << 30

  /// Images at once when each is evaluated `passes` times in one batch.
  static func inference(_ c: DiTConfiguration, passes: Int) -> Int {
    let patches = c.outputGrid.patchElements
    let token = patches + 3 * c.hiddenSize + max(4 * c.hiddenSize, c.mlpSize) + c.numHeads + 2
    let pass = c.totalTokens * token + Modulation.elements(c, rows: 1) + c.imageElements + c.outputElements
    return images(elements: passes * pass)
  }

  /// Images at once in a pass with gradients.
  static func training(_ c: DiTConfiguration) -> Int {
    let block = 8 * c.hiddenSize + c.mlpSize + c.numHeads + 4
    let wide = max(c.mlpSize, 3 * c.hiddenSize)
    let token = c.depth * block + 6 * c.hiddenSize + 2 * wide + c.outputGrid.patchElements
    return images(elements: c.totalTokens * token + 2 * Modulation.elements(c, rows: 1))
  }

  private static func images(elements: Int) -> Int {
    min(maximumImages, max(1, maximumBytes / (MemoryLayout<Float>.stride * elements)))
  }
}

/// `count` items in runs of at most `size`.
func batches(_ count: Int, of size: Int) -> [Range<Int>] {
  stride(from: 0, to: count, by: size).map { $0..<min($0 + size, count) }
}
