/// One tensor of the network: its published state-dict name, shape, and place in every flat buffer.
public struct Parameter: Equatable, Sendable {
  /// How a new network's values are drawn.
  public enum Initialization: Equatable, Sendable {
    case zero
    case constant(Float)
    /// U(−a, a), a = √(6 / (fanIn + fanOut)).
    case xavierUniform(fanIn: Int, fanOut: Int)
    /// N(0, deviation²).
    case normal(deviation: Float)
    /// The 2-D sine-cosine position table; zeros for the `prefix` tokens before the image's.
    case sinCosPositions(prefix: Int)
  }

  public let name: String
  public let shape: [Int]
  /// The first element's index in a flat buffer; a multiple of 16.
  public let offset: Int
  public let initialization: Initialization
  /// Whether training changes it: a fixed position table is a tensor, but no weight.
  public let isTrained: Bool

  public var count: Int { shape.reduce(1, *) }
  /// The elements' place in a flat buffer.
  public var range: Range<Int> { offset..<offset + count }
  /// The same with the padding up to the next tensor.
  var paddedRange: Range<Int> { offset..<offset + ((count + 15) & ~15) }
}

/// Collects the tensors of a network's parts, in order: each part adds its own and keeps their indices.
package struct ParameterBuilder {
  private(set) var parameters: [Parameter] = []
  /// Where the next tensor begins in a flat buffer.
  private(set) var next = 0

  package init() {}

  /// The trained parts of a flat buffer, in order, padding included; neighbors are joined.
  package var trainable: [Range<Int>] {
    parameters.filter(\.isTrained).reduce(into: []) { ranges, parameter in
      let range = parameter.paddedRange
      if let last = ranges.last, last.upperBound == range.lowerBound {
        ranges[ranges.count - 1] = last.lowerBound..<range.upperBound
      } else {
        ranges.append(range)
      }
    }
  }

  package mutating func add(
    _ name: String, _ shape: [Int], _ initialization: Parameter.Initialization, isTrained: Bool = true
  ) -> Int {
    let parameter = Parameter(
      name: name, shape: shape, offset: next, initialization: initialization, isTrained: isTrained)
    next = parameter.paddedRange.upperBound
    parameters.append(parameter)
    return parameters.count - 1
  }

  /// W (outputs, inputs) and, unless it has none, a bias of zeros.
  package mutating func linear(
    _ name: String, _ inputs: Int, _ outputs: Int, _ initialization: Parameter.Initialization? = nil,
    hasBias: Bool = true
  ) -> LinearLayer {
    linear(name, shape: [outputs, inputs], initialization, hasBias: hasBias)
  }

  /// The same stored as a convolution's weight, (outputs, …).
  package mutating func linear(
    _ name: String, shape: [Int], _ initialization: Parameter.Initialization? = nil, hasBias: Bool = true
  ) -> LinearLayer {
    let (outputs, inputs) = (shape[0], shape.dropFirst().reduce(1, *))
    let weight = add(name + ".weight", shape, initialization ?? .xavierUniform(fanIn: inputs, fanOut: outputs))
    let bias = hasBias ? add(name + ".bias", [outputs], .zero) : nil
    return LinearLayer(weight: weight, bias: bias, inputs: inputs, outputs: outputs)
  }
}
