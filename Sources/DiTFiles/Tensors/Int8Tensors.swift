import DiTTensor

/// A safetensors file in which weights are int8 with a scale for each row, as compressed-tensors names them: `NAME` (outputs,
/// inputs) of dtype I8, and `NAME_scale` (outputs, 1) of dtype F32. To readers it holds `NAME`, of real numbers scale · code,
/// which are made when they are asked for; its other tensors as they are.
public final class Int8Tensors: TensorStore {
  private let file: SafetensorsFile
  public let keys: [StateDict.Key]

  /// Whether a file has such weights.
  public static func areIn(_ file: SafetensorsFile) -> Bool { file.header.entries.contains { $0.dtype == .i8 } }

  /// - Throws: `DiTError` when an I8 tensor is no matrix or has no scales, one finite number ≥ 0 a row.
  public init(_ file: SafetensorsFile) throws(DiTError) {
    self.file = file
    var scales: Set<String> = []
    for entry in file.header.entries where entry.dtype == .i8 {
      guard entry.shape.count == 2 else {
        throw DiTError(
          file: file.path, .tensor(entry.name), expected: "a matrix (outputs, inputs) of I8",
          found: "shape \(Message.shape(entry.shape))")
      }
      let name = entry.name + Self.ending
      let found = try file.tensor(name)
      guard found.elements.count == entry.shape[0] else {
        throw DiTError(
          file: file.path, .tensor(name), expected: "a scale for each of the \(entry.shape[0]) rows of \(entry.name)",
          found: "shape \(Message.shape(found.shape))")
      }
      if let place = found.elements.firstIndex(where: { !($0.isFinite && $0 >= 0) }) {
        throw DiTError(
          file: file.path, .tensor(name), expected: "finite scales of at least 0",
          found: "\(found.elements[place]) at element \(place)")
      }
      scales.insert(name)
    }
    keys = file.keys.filter { !scales.contains($0.name) }
  }

  private static let ending = "_scale"

  public var path: String { file.path }
  public func shape(of name: String) -> [Int]? { file.shape(of: name) }
  public func slice(_ name: String) throws -> FloatSlice { try parts(name).slice }

  public func parts(_ name: String) throws -> TensorParts {
    guard let entry = file.entry(named: name), entry.dtype == .i8 else { return try file.parts(name) }
    let scales = try file.tensor(name + Self.ending).elements
    let columns = entry.shape[1]
    @Sendable func values() -> FloatSlice {
      let slice = MutableFloatSlice(uninitialized: entry.count)
      var target = slice.mutableSpan
      do {
        try file.withBytes(of: name) { bytes in
          for (row, scale) in scales.enumerated() {
            for i in row * columns..<(row + 1) * columns {
              target[i] = scale * Float(unsafe bytes.unsafeLoad(fromUncheckedByteOffset: i, as: Int8.self))
            }
          }
        }
      } catch {
        preconditionFailure("\(name) was there")
      }
      return slice.reading
    }
    return TensorParts(
      count: entry.count, isInt8: true, release: { [file] in file.releasePages(of: name) },
      firstNotFinite: { nil }, make: { values() })
  }

  /// The two tensors of a weight (outputs, inputs).
  ///
  /// - Parameters:
  ///   - name: of the weight.
  ///   - outputs: rows.
  ///   - inputs: columns.
  ///   - scales: one for each output.
  ///   - codes: the codes, row after row; asked for when they are written, once.
  public static func sources(
    _ name: String, outputs: Int, inputs: Int, scales: [Float], codes: @escaping () -> [Int8]
  ) -> [TensorSource] {
    var held: [Int8] = []
    let all = TensorSource(name, shape: [outputs, inputs], as: .i8) { (offset: Int, chunk: inout MutableSpan<Int>) in
      if offset == 0 { held = codes() }
      for i in chunk.indices { chunk[i] = Int(held[offset + i]) }
      if offset + chunk.count == held.count { held = [] }
    }
    let steps = TensorSource(name + ending, shape: [outputs, 1]) { (offset: Int, chunk: inout MutableSpan<Float>) in
      for i in chunk.indices { chunk[i] = scales[offset + i] }
    }
    return [all, steps]
  }
}
