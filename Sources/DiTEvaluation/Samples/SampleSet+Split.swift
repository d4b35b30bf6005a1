extension SampleSet {
  /// The parts of a set that comes without a split of its own: every fifth sample is held out (index mod 5 = 4).
  public enum Part: String, CaseIterable, Sendable {
    case train, test

    /// Whether the sample at `index` belongs to the part.
    public func contains(_ index: Int) -> Bool { (index % 5 == 4) == (self == .test) }
  }

  /// The samples of one part, in their order.
  public func part(_ part: Part, name: String? = nil) -> SampleSet {
    subset((0..<count).filter(part.contains), name: name)
  }
}
