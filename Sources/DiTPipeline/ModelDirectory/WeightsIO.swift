import DiTFiles
import DiTKernels
import DiTModel
import DiTTensor

// Weights ↔ state dicts with the published names.

extension Weights {
  /// The tensors of `file`: F32 where they lie in the mapped file, other float types converted.
  ///
  /// A position table belongs to a grid. A fixed one that is absent, or the fixed one of another grid, is computed; any other
  /// of another grid is resampled (see ``PositionTable``).
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
    let parts = try table.parameters.map { parameter in
      guard parameter.name == PositionTable.name else { return try Self.finiteParts(parameter.name, of: file) }
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

  /// The tensors of the safetensors file at `path`.
  ///
  /// - Throws: `DiTError`, and what ``init(_:configuration:)`` throws.
  public init(contentsOf path: String, configuration: DiTConfiguration) throws {
    try self.init(SafetensorsFile(contentsOf: path), configuration: configuration)
  }

  /// Writes all tensors to `path`, atomically; equal values give equal bytes.
  ///
  /// - Parameter dtype: F32, BF16 or F16. A fixed position table is F32 in any case, as it is not a weight.
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
