import DiTTensor

/// Writes safetensors files: atomically, in chunks, and the same bytes for the same input.
///
/// The layout is that of the format's own library: tensors by dtype, larger elements first (and in the order of
/// ``Dtype`` among equals), then by name; the header padded with spaces to 8 bytes, so that every tensor is aligned.
/// `__metadata__` always holds `"format": "pt"`, without which Python programs refuse a file.
public enum SafetensorsWriter {
  /// Writes `tensors` to the file at `path`. Beside the tensors themselves it takes a few megabytes of memory.
  ///
  /// - Throws: `DiTError` when the file cannot be written or a whole number does not fit its dtype, and what a
  ///   tensor's source throws. The file at `path` is then as it was before.
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
    for tensor in sorted {
      var bytes = TensorBytes(tensor, for: path)
      while try bytes.next() { try file.write(bytes.bytes.span) }
    }
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
}
