import DiTFiles
import DiTKernels
import DiTTensor

/// Reads convolutions with their batch normalization: y = γ (w ∗ x − μ) / √(σ² + ε) + β becomes one convolution, whose weights and bias
/// are made in Double and rounded once.
struct UnitReader {
  let store: any TensorStore
  let context: ComputeContext
  let epsilon: Double

  /// - Parameters:
  ///   - convolution: the name of the filters, (outputs, channels, rows, columns), without `.weight`.
  ///   - normalization: the name of γ, β, μ and σ², without their endings.
  /// - Throws: `DiTError` that names the tensor, what was expected and what was found.
  func convolution(
    _ convolution: String, _ normalization: String, _ shape: WindowShape, _ channels: Int, _ outputs: Int, limit: Float?
  ) throws -> ConvolutionUnit {
    let (filters, bias) = try folded(convolution, normalization, [outputs, channels, shape.rows, shape.columns])
    let ordered = MutableFloatSlice(zeros: filters.count)
    ComputeContext.patchOrder(
      ordered, weight: FloatSlice(filters), channels: channels, outputs: outputs, taps: shape.rows * shape.columns)
    let columns = Matrix(ordered.reading, rows: outputs, columns: filters.count / outputs).transposed
    let count = ComputeContext.packedElements(depth: columns.rows, columns: outputs, format: .fp32)
    let panels = context.pack(columns, into: MutableFloatSlice(zeros: count), as: .fp32)
    return ConvolutionUnit(
      shape: shape, channels: channels, outputs: outputs, weight: panels, bias: FloatSlice(bias), limit: limit)
  }

  /// - Parameter convolution: the name of the filters, (channels, 1, rows, columns), without `.weight`.
  /// - Throws: as ``convolution(_:_:_:_:_:limit:)``.
  func depthwise(
    _ convolution: String, _ normalization: String, _ shape: WindowShape, _ channels: Int, limit: Float
  ) throws -> DepthwiseUnit {
    let (filters, bias) = try folded(convolution, normalization, [channels, 1, shape.rows, shape.columns])
    let taps = shape.rows * shape.columns
    let ordered = (0..<filters.count).map { filters[$0 % channels * taps + $0 / channels] }
    return DepthwiseUnit(
      shape: shape, channels: channels, filters: FloatSlice(ordered), bias: FloatSlice(bias), limit: limit)
  }

  private func folded(
    _ convolution: String, _ normalization: String, _ shape: [Int]
  ) throws -> (filters: [Float], bias: [Float]) {
    let filters = try tensor(convolution + ".weight", shape)
    let parts = try ["weight", "bias", "running_mean", "running_var"].map { part in
      try tensor("\(normalization).\(part)", [shape[0]])
    }
    let size = filters.count / shape[0]
    let scales = try (0..<shape[0]).map { o in
      let variance = Double(parts[3][o]) + epsilon
      guard variance > 0 else {
        throw DiTError(
          file: store.path, .tensor("\(normalization).running_var"), expected: "variances of at least 0",
          found: "\(parts[3][o]) at element \(o)")
      }
      return Double(parts[0][o]) / variance.squareRoot()
    }
    return (
      filters.indices.map { Float(Double(filters[$0]) * scales[$0 / size]) },
      (0..<shape[0]).map { Float(Double(parts[1][$0]) - Double(parts[2][$0]) * scales[$0]) }
    )
  }

  /// The finite numbers of a tensor.
  func tensor(_ name: String, _ shape: [Int]) throws -> [Float] {
    guard let found = store.shape(of: name) else {
      throw DiTError(
        file: store.path, .tensor(name), expected: "a tensor of shape \(Message.shape(shape))",
        found: "none of that name")
    }
    guard found == shape else {
      throw DiTError(
        file: store.path, .tensor(name), expected: "shape \(Message.shape(shape))", found: Message.shape(found))
    }
    let values = try store.slice(name).array
    if let bad = values.firstIndex(where: { !$0.isFinite }) {
      throw DiTError(
        file: store.path, .tensor(name), expected: "finite numbers", found: "\(values[bad]) at element \(bad)")
    }
    return values
  }
}
