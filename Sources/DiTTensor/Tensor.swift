/// A value: a shape and its elements in row-major order. For data that comes in and goes out; the engine's own
/// activations live in an ``Arena``.
public struct Tensor: Equatable, Sendable {
  /// The extents, outermost first; `[]` for a scalar.
  public let shape: [Int]
  /// The elements, the last extent running fastest.
  public var elements: [Float]

  /// - Precondition: `elements.count` is the product of `shape`.
  public init(shape: [Int], elements: [Float]) {
    precondition(
      shape.allSatisfy { $0 >= 0 } && elements.count == shape.reduce(1, *),
      "\(elements.count) elements do not fill the shape \(shape)")
    self.shape = shape
    self.elements = elements
  }

  /// A tensor of zeros.
  public init(zeros shape: [Int]) {
    self.init(shape: shape, elements: [Float](repeating: 0, count: shape.reduce(1, *)))
  }

  /// The number of elements.
  public var count: Int { elements.count }
}
