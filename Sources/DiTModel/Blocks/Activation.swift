import DiTKernels
import DiTTensor

/// A tensor between two layers, in the format of the next product's operand. bf16 elements lie two to a float of the
/// arena.
struct Activation: Sendable {
  let slice: Slice
  let precision: Precision

  init(_ slice: Slice, _ precision: Precision = .fp32) {
    self.slice = slice
    self.precision = precision
  }

  /// Floats that hold `elements`.
  static func floats(_ elements: Int, _ precision: Precision) -> Int { precision.floats(holding: elements) }
}

extension Arena {
  /// The next `elements` of a format.
  mutating func reserve(_ elements: Int, _ precision: Precision) -> Activation {
    Activation(reserve(Activation.floats(elements, precision)), precision)
  }
}
