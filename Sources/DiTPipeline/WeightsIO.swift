import DiTCheckpoint
import DiTModel
import DiTTensor

// Weights ↔ state dicts with the published names.

extension Weights {
  private static let positions = "pos_embed"

  /// The tensors of `file`: F32 where they lie in the mapped file, other float types converted. The position table may be
  /// absent; it is then computed.
  ///
  /// - Throws: `StateDictMismatch` with every tensor that is missing, unexpected or of another shape; `SafetensorsError`
  ///   when one is not of a float type; ``ModelFileError`` when there are fewer tensors than blocks.
  public init(_ file: SafetensorsFile, configuration: DiTConfiguration) throws {
    let found = file.header.entries.count
    guard configuration.depth <= found else {  // or the table would be larger than the file warrants
      throw ModelFileError(
        file: file.path, item: "tensors", expected: "those of \(configuration.depth) blocks", found: "\(found)")
    }
    let table = ParameterTable(configuration)
    try StateDict.check(
      file, holds: table.parameters.map { ($0.name, $0.shape) }, optional: [Self.positions])
    let slices = try table.parameters.map { parameter in
      if parameter.name == Self.positions, file.entry(named: parameter.name) == nil {
        let computed = Slice(zeros: parameter.count)
        parameter.initialise(computed, configuration, seed: 0, stream: 0)
        return computed
      }
      return try file.slice(parameter.name)
    }
    self.init(table, slices: slices)
  }

  /// The tensors of the safetensors file at `path`.
  ///
  /// - Throws: `FileError`, and what ``init(_:configuration:)`` throws.
  public init(contentsOf path: String, configuration: DiTConfiguration) throws {
    try self.init(SafetensorsFile(contentsOf: path), configuration: configuration)
  }

  /// Writes all tensors to `path`, atomically; equal values give equal bytes.
  ///
  /// - Parameter dtype: F32, BF16 or F16.
  /// - Throws: `FileError`.
  public func write(to path: String, as dtype: Dtype = .f32) throws {
    let tensors = zip(table.parameters, slices).map { parameter, slice in
      TensorSource(parameter.name, slice, shape: parameter.shape, as: dtype)
    }
    try SafetensorsWriter.write(tensors, to: path)
  }

  /// A copy in one new flat buffer with the table's offsets, which training may write.
  public func flattened() -> Slice {
    let flat = Slice(zeros: table.elementCount)
    for (parameter, slice) in zip(table.parameters, slices) { flat[parameter.range].copy(from: slice.span) }
    return flat
  }
}
