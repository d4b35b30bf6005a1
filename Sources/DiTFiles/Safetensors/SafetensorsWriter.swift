import DiTTensor

/// Writes safetensors files: atomically, in chunks, and the same bytes for the same input.
///
/// The layout is that of the format's own library: tensors by dtype, larger elements first (and in the order of
/// ``Dtype`` among equals), then by name; the header padded with spaces to 8 bytes, so that every tensor is aligned.
/// `__metadata__` always holds `"format": "pt"`, without which Python programs refuse a file.
public enum SafetensorsWriter {
  /// The elements converted and written at a time.
  static let chunk = 1 << 20

  /// Writes `tensors` to the file at `path`. Beside the tensors themselves it takes a few megabytes of memory.
  ///
  /// - Throws: ``FileError`` when the file cannot be written, ``SafetensorsError`` when a whole number does not fit its
  ///   dtype, and what a tensor's source throws. The file at `path` is then as it was before.
  /// - Precondition: names differ from each other and from `__metadata__`; `metadata` has no other `format`.
  public static func write(_ tensors: [TensorSource], metadata: [String: String] = [:], to path: String) throws {
    let file = try stage(tensors, metadata: metadata, for: path)
    try file.commit()
  }

  /// Writes what is to become the file at `path`, and flushes it: see ``AtomicFile/flush()``.
  ///
  /// - Throws: as ``write(_:metadata:to:)``.
  package static func stage(
    _ tensors: [TensorSource], metadata: [String: String] = [:], for path: String
  ) throws -> AtomicFile {
    let sorted = tensors.sorted(by: precedes)
    let header = header(of: sorted, metadata: metadata)
    let file = try AtomicFile(path: path)
    try file.write(header.span)
    for tensor in sorted { try write(tensor, to: file) }
    try file.flush()
    return file
  }

  private static func precedes(_ a: TensorSource, _ b: TensorSource) -> Bool {
    if a.dtype != b.dtype { return a.dtype.rank > b.dtype.rank }
    return a.name.utf8.lexicographicallyPrecedes(b.name.utf8)
  }

  // MARK: Header

  /// The length and the padded JSON.
  static func header(of tensors: [TensorSource], metadata: [String: String]) -> [UInt8] {
    precondition(metadata["format"] ?? "pt" == "pt", "the metadata's format is pt, not \(metadata["format"] ?? "")")
    let names = Set(tensors.map { ExactName($0.name) }).union([ExactName("__metadata__")])
    precondition(names.count == tensors.count + 1, "names must differ from each other and from __metadata__")
    let pairs = metadata.merging(["format": "pt"]) { $1 }
      .sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
      .map { "\(JSONText.quoted($0.key)):\(JSONText.quoted($0.value))" }
    var parts = ["\"__metadata__\":{\(pairs.joined(separator: ","))}"]
    var offset = 0
    for tensor in tensors {
      let end = offset + tensor.byteCount
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      let entry = #"{"dtype":"\#(tensor.dtype.rawValue)","shape":[\#(shape)],"data_offsets":[\#(offset),\#(end)]}"#
      parts.append("\(JSONText.quoted(tensor.name)):\(entry)")
      offset = end
    }
    var json = Array("{\(parts.joined(separator: ","))}".utf8)
    json += [UInt8](repeating: UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
    precondition(json.count <= SafetensorsHeader.maximumLength, "a header of \(json.count) bytes is too long")
    return (0..<8).map { UInt8(truncatingIfNeeded: json.count >> (8 * $0)) } + json
  }

  // MARK: Data

  private static func write(_ tensor: TensorSource, to file: borrowing AtomicFile) throws {
    let dtype = tensor.dtype
    switch tensor.elements {
    case .floats(let fill):
      try write(tensor, filledBy: fill, zero: 0, to: file) { _, chunk, bytes in
        Elements.write(chunk, as: dtype, into: &bytes)
      }
    case .doubles(let fill):
      try write(tensor, filledBy: fill, zero: 0, to: file) { _, chunk, bytes in
        Elements.writeDoubles(chunk, into: &bytes)
      }
    case .integers(let fill):
      let path = file.path
      try write(tensor, filledBy: fill, zero: 0, to: file) { offset, chunk, bytes in
        if let i = chunk.indices.first(where: { !dtype.integers.contains(chunk[$0]) }) {
          let problem = SafetensorsError.Problem.outOfRange(index: offset + i, value: chunk[i], dtype: dtype)
          throw SafetensorsError(path: path, tensor: tensor.name, problem: problem)
        }
        Elements.write(chunk, as: dtype, into: &bytes)
      }
    }
  }

  private static func write<Number>(
    _ tensor: TensorSource, filledBy fill: TensorSource.Fill<Number>, zero: Number, to file: borrowing AtomicFile,
    _ encode: (Int, Span<Number>, inout MutableSpan<UInt8>) throws -> Void
  ) throws {
    let size = tensor.dtype.bitWidth / 8
    let count = tensor.byteCount / size
    var numbers = [Number](repeating: zero, count: min(chunk, count))
    var bytes = [UInt8](repeating: 0, count: numbers.count * size)
    for offset in stride(from: 0, to: count, by: chunk) {
      let filled = min(chunk, count - offset)
      numbers.removeLast(numbers.count - filled)
      bytes.removeLast(bytes.count - filled * size)
      var window = numbers.mutableSpan
      try fill(offset, &window)
      var encoded = bytes.mutableSpan
      try encode(offset, numbers.span, &encoded)
      try file.write(bytes.span)
    }
  }
}
