import Foundation

/// A value: a shape and its elements in row-major order. For data that comes in and goes out; the engine's own
/// activations live in an `Arena`.
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

  /// N(0, 1) noise: of (N, …) what sampling with this seed draws for image 0 … N−1 to start from.
  ///
  /// - Precondition: there is an outermost extent.
  public init(noise shape: [Int], seed: UInt64) {
    precondition(!shape.isEmpty, "noise of no extent")
    let size = shape.dropFirst().reduce(1, *)
    let elements = (0..<shape[0]).flatMap { n -> [Float] in
      var random = Philox(seed: seed, stream: UInt64(n))
      return random.normal(count: size)
    }
    self.init(shape: shape, elements: elements)
  }

  /// The number of elements.
  public var count: Int { elements.count }

  /// The part at the outermost indices: of (N, C, H, W) `[n]` is image n, (C, H, W), and `[n, c]` its channel c, (H, W).
  ///
  /// - Precondition: as many indices as extents at most, each inside its extent; of a new value the shape of the part.
  public subscript(indices: Int...) -> Tensor {
    get {
      let part = part(indices)
      return Tensor(shape: Array(shape.dropFirst(indices.count)), elements: Array(elements[part]))
    }
    set {
      let wanted = Array(shape.dropFirst(indices.count))
      precondition(newValue.shape == wanted, "a part of shape \(newValue.shape) for one of shape \(wanted)")
      elements.replaceSubrange(part(indices), with: newValue.elements)
    }
  }

  /// One element: of (N, C, H, W) that at row y and column x of channel c of image n is `[at: n, c, y, x]`.
  ///
  /// - Precondition: an index for each extent, inside it.
  public subscript(at indices: Int...) -> Float {
    get {
      precondition(indices.count == shape.count, "\(indices.count) indices of an element of shape \(shape)")
      return elements[part(indices).lowerBound]
    }
    set {
      precondition(indices.count == shape.count, "\(indices.count) indices of an element of shape \(shape)")
      elements[part(indices).lowerBound] = newValue
    }
  }

  /// Where the part at the outermost indices lies.
  private func part(_ indices: [Int]) -> Range<Int> {
    precondition(
      indices.count <= shape.count && zip(indices, shape).allSatisfy { 0..<$1 ~= $0 }, "\(indices) of shape \(shape)")
    let size = shape.dropFirst(indices.count).reduce(1, *)
    let first = zip(indices, shape).reduce(0) { $0 * $1.1 + $1.0 } * size
    return first..<first + size
  }

  /// The same elements in another shape.
  ///
  /// - Precondition: of as many elements.
  public func reshaped(_ shape: Int...) -> Tensor { Tensor(shape: shape, elements: elements) }

  /// The samples (first extent) at these places, in this order.
  package func picking(_ places: [Int]) -> Tensor {
    Tensor(shape: [places.count] + shape.dropFirst(), elements: places.flatMap { range($0..<$0 + 1).elements })
  }

  /// Between two tensors of noise along the great circle (Shoemake 1985), so that what is between is as large as they are: at 0
  /// this one, at 1 the other. Of (N, …) each of the N by itself.
  ///
  /// - Precondition: both have one shape, of at least one extent.
  public func interpolated(to other: Tensor, _ fraction: Double) -> Tensor {
    precondition(shape == other.shape && !shape.isEmpty, "from \(shape) to \(other.shape)")
    if fraction == 0 { return self }
    if fraction == 1 { return other }
    var result = self
    let size = shape[0] == 0 ? 0 : count / shape[0]
    for n in 0..<shape[0] {
      let range = n * size..<(n + 1) * size
      var (a, b, product) = (0.0, 0.0, 0.0)
      for i in range {
        let (x, y) = (Double(elements[i]), Double(other.elements[i]))
        (a, b, product) = (a + x * x, b + y * y, product + x * y)
      }
      let cosine = min(1, max(-1, product / (a * b).squareRoot()))
      let angle = acos(cosine)
      // Where they point the same way, or opposite ways, the circle says nothing: a straight line.
      let (from, to) =
        sin(angle) > 1e-6
        ? (sin((1 - fraction) * angle) / sin(angle), sin(fraction * angle) / sin(angle)) : (1 - fraction, fraction)
      for i in range { result.elements[i] = Float(from * Double(elements[i]) + to * Double(other.elements[i])) }
    }
    return result
  }

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
