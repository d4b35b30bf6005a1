import DiTFiles
import DiTKernels
import DiTModel
import DiTTensor

// Weights ↔ state dicts with the published names.

extension Weights {
  /// The tensors of `file`: F32 where they lie in the mapped file, linear layers' weights of other types too, converted when they
  /// are asked for, and the rest of other types converted.
  ///
  /// A position table belongs to a grid. A fixed one that is absent, or the fixed one of another grid, is computed; any other
  /// of another grid is resampled (see `PositionTable`).
  /// All of them are read once: attention's softmax can make finite numbers of a NaN in q and k, so that a result does not
  /// tell.
  /// - Throws: `DiTError` with every tensor that is missing, unexpected or of another shape; when one is not of a float
  ///   type; when there are fewer tensors than blocks, when nothing tells the grid of a position table that has to be
  ///   resampled, and when one holds NaN or infinity.
  public init(_ file: some TensorStore, configuration: DiTConfiguration) throws {
    let found = file.keys.count
    guard configuration.depth <= found else {  // or the table would be larger than the file warrants
      throw DiTError(
        file: file.path, .entry("tensors"), expected: "those of \(configuration.depth) blocks", found: "\(found)")
    }
    let table = ParameterTable(configuration)
    let positions =
      !configuration.position.hasTable ? nil : try PositionTable(file, width: configuration.hiddenSize)
    let expected = table.parameters.map { parameter in
      let isTable = parameter.name == PositionTable.name && positions != nil
      return (parameter.name, isTable ? file.shape(of: parameter.name) ?? [] : parameter.shape)
    }
    try StateDict.check(file, holds: expected, optional: configuration.position.isLearned ? [] : [PositionTable.name])
    let layers = Set(table.linearLayers.map { table.parameters[$0.weight].name })
    let parts = try table.parameters.map { parameter in
      guard parameter.name == PositionTable.name else {
        let parts = try Self.finiteParts(parameter.name, of: file)
        return layers.contains(parameter.name) ? parts : TensorParts(parts.slice)
      }
      if let positions { return TensorParts(try positions.values(for: configuration, file: file.path)) }
      let made = MutableFloatSlice(zeros: parameter.count)
      parameter.initialize(made, configuration, seed: 0, stream: 0)
      return TensorParts(made.reading)
    }
    self.init(table, parts: parts)
  }

  /// A tensor of finite numbers. Memory of a mapped file is given back once they have been looked at.
  static func finite(_ name: String, of file: some TensorStore) throws -> FloatSlice {
    try finiteParts(name, of: file).slice
  }

  /// The same where it lies.
  private static func finiteParts(_ name: String, of file: some TensorStore) throws -> TensorParts {
    let parts = try file.parts(name)
    guard let (index, value) = parts.firstNotFinite else {
      parts.releasePages()
      return parts
    }
    throw DiTError(
      file: file.path, .tensor(name), expected: "finite numbers", found: "\(value) at element \(index)")
  }

  /// The tensors of the safetensors file at `path`, some of which may be int8 (`Int8Tensors`).
  ///
  /// - Throws: `DiTError`, and what ``init(_:configuration:)`` throws.
  public init(contentsOf path: String, configuration: DiTConfiguration) throws {
    let file = try SafetensorsFile(contentsOf: path)
    if Int8Tensors.areIn(file) {
      try self.init(Int8Tensors(file), configuration: configuration)
    } else {
      try self.init(file, configuration: configuration)
    }
  }

  /// Writes all tensors to `path`, atomically; equal values give equal bytes.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - dtype: F32, BF16 or F16. A fixed position table is F32 in any case, as it is not a weight.
  /// - Throws: `DiTError`.
  public func write(to path: String, as dtype: Dtype = .f32) throws {
    let file = try stage(for: path, as: dtype)
    try file.commit()
  }

  /// Writes what is to become the file at `path`.
  func stage(for path: String, as dtype: Dtype) throws -> AtomicFile {
    let tensors = zip(table.parameters, slices).map { parameter, slice in
      TensorSource(parameter.name, slice, shape: parameter.shape, as: parameter.isTrained ? dtype : .f32)
    }
    return try SafetensorsWriter.stage(tensors, for: path)
  }

  /// Writes what is to become the file at `path`, with int8 codes and scales of the weights that a plan makes int8
  /// (`Int8Tensors`); those of the blocks' other layers and of the conditioning in BF16, the rest, a few, in F32.
  func stage(for path: String, _ plan: Int8Plan, context: ComputeContext) throws -> AtomicFile {
    let layers = Dictionary(
      table.blockLayers.filter { !plan.wide.contains($0.weight) }.map { ($0.weight, $0) },
      uniquingKeysWith: { a, _ in a })
    let narrow = Set(table.blockLayers.map(\.weight) + table.conditioningWeights)
    let tensors = table.parameters.enumerated().flatMap { index, parameter -> [TensorSource] in
      guard let layer = layers[index] else {
        return [
          TensorSource(
            parameter.name, slices[index], shape: parameter.shape, as: narrow.contains(index) ? .bf16 : .f32)
        ]
      }
      func quantized() -> (codes: [Int8], scales: [Float]) {
        context.quantizedWeights(Matrix(slices[index], rows: layer.outputs, columns: layer.inputs))
      }
      return Int8Tensors.sources(
        parameter.name, outputs: layer.outputs, inputs: layer.inputs, scales: quantized().scales
      ) { quantized().codes }
    }
    let wide = plan.layers.filter(\.isWide).map(\.name).joined(separator: ", ")
    return try SafetensorsWriter.stage(
      tensors,
      metadata: [Int8Plan.wideKey: wide, Int8Plan.errorKey: Int8Plan.text(plan.error)], for: path)
  }

  /// A copy in one new flat buffer with the table's offsets, which training may write.
  public func flattened() -> MutableFloatSlice {
    let flat = MutableFloatSlice(zeros: table.elementCount)
    copy(to: flat)
    return flat
  }

  /// Copies the values into a flat buffer with the table's offsets. Memory of a mapped file is given back tensor by tensor,
  /// so that the values are not held twice.
  ///
  /// - Precondition: `flat.count` is the table's `elementCount`.
  public func copy(to flat: MutableFloatSlice) {
    precondition(flat.count == table.elementCount, "\(table.elementCount) elements into \(flat.count)")
    for (parameter, slice) in zip(table.parameters, slices) {
      flat[parameter.range].copy(from: slice.span)
      slice.releasePages()
    }
  }
}
