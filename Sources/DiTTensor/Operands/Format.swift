/// What the elements of an operand are. A format that needs scales will carry them.
public enum Format: Hashable, Sendable {
  case fp32
  /// bfloat16, the upper half of a float32, rounded to nearest, ties to even.
  case bf16

  /// Bytes of an element.
  public var size: Int { self == .fp32 ? 4 : 2 }
  /// Floats of memory that hold `elements` of this format.
  package func floats(holding elements: Int) -> Int { self == .fp32 ? elements : (elements + 1) / 2 }
}
