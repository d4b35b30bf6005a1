import DiTModel

/// How many images run at once. It depends on the network alone, never on the machine, so that results do not either.
enum BatchPlan {
  /// Images at once, at most.
  static let maximumImages = 64
  /// Bytes that activations and modulation rows may take, about; one image may take more.
  static let maximumBytes = 1 << 30

  /// Images at once when each is evaluated `passes` times in one batch.
  static func inference(_ c: DiTConfiguration, passes: Int, _ caching: StepCaching? = nil) -> Int {
    let pass =
      InferenceWorkspace.elements(c, samples: 1) + Modulation.elements(c, rows: 1)
      + (caching?.byteCount(c, samples: 1) ?? 0) / MemoryLayout<Float>.stride
    return images(elements: passes * (pass + c.imageElements + c.outputElements))
  }

  /// Images at once in a pass with gradients.
  static func training(_ c: DiTConfiguration) -> Int {
    images(elements: TrainingWorkspace.elements(c, samples: 1))
  }

  private static func images(elements: Int) -> Int {
    min(maximumImages, max(1, maximumBytes / (MemoryLayout<Float>.stride * elements)))
  }
}

/// `count` items in runs of at most `size`.
func batches(_ count: Int, of size: Int) -> [Range<Int>] {
  stride(from: 0, to: count, by: size).map { $0..<min($0 + size, count) }
}
