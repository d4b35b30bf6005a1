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

  /// The first `count` of the outermost extent: of (N, …) the tensor (count, …).
  ///
  /// - Precondition: `count` is in 0…N, and the tensor is not a scalar.
  public func prefix(_ count: Int) -> Tensor { range(0..<count) }

  /// The part of the outermost extent that `range` names: of (N, …) the tensor (range.count, …). A copy, unless it is all.
  ///
  /// - Precondition: `range` lies in 0..<N, and the tensor is not a scalar.
  public func range(_ range: Range<Int>) -> Tensor {
    precondition(!shape.isEmpty && range.upperBound <= shape[0] && range.lowerBound >= 0, "\(range) of shape \(shape)")
    guard range != 0..<shape[0] else { return self }
    let size = shape.dropFirst().reduce(1, *)
    let part = elements[range.lowerBound * size..<range.upperBound * size]
    return Tensor(shape: [range.count] + shape.dropFirst(), elements: Array(part))
  }
}
