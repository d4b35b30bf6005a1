import DiTTensor

/// A state dict of whatever format.
public enum StateDictFile {
  /// Opens the file at `path`, a safetensors file or one of `torch.save`: its first bytes decide, not its ending.
  ///
  /// - Parameter sections: keys of a training checkpoint of torch; see ``TorchFile``.
  /// - Throws: ``FileError``, ``SafetensorsError``, ``TorchFileError``; the last also for a file that is neither.
  public static func open(
    contentsOf path: String, sections: [String] = TorchFile.trainingSections
  ) throws -> any TensorStore {
    let file = try MappedFile(path: path)
    let start = file.withBytes(0..<min(file.count, 14)) { $0.array }
    if TorchFormat.isTorch(start) { return try TorchFile(.mapped(file), path: path, sections: sections) }
    // Eight bytes with the header's length, then the header.
    guard start.count > 8, start[8] == UInt8(ascii: "{") else {
      throw TorchFileError(
        path: path, item: "state dict",
        expected: "a safetensors file (a header that starts with '{') or a torch .pt file (a ZIP archive)",
        found: TorchFormat.description(start, count: file.count))
    }
    return try SafetensorsFile(.mapped(file), path: path)
  }
}
