import DiTTensor

/// A state dict of whatever format.
public struct StateDictFile: Sendable {
  /// The tensors, by the names that the network gives them: a ``SafetensorsFile``, a ``TorchFile``, or a part of the
  /// former by other names.
  public let store: any TensorStore
  /// The keys and the wrappers' words that lead to the state dict, the outermost first; none for a plain one.
  public let tree: [String]
  /// Whether one of them says that it is a moving average.
  public let isAverage: Bool
  /// The same words of every state dict of a torch file, whichever was read.
  public let trees: [[String]]
  /// Those of the program that wrote a training checkpoint.
  public let arguments: ProgramArguments

  /// Opens the file at `path`, a safetensors file or one of `torch.save`: its first bytes decide, not its ending.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - choice: which of a training checkpoint's state dicts is read.
  /// - Throws: `DiTError`, also for a file that is neither, and for a safetensors file without such a state dict.
  public init(contentsOf path: String, tree choice: TreeChoice = .averagePreferred) throws {
    let file = try MappedFile(path: path)
    let start = file.withBytes(0..<min(file.count, TorchFormat.length)) { $0.array }
    if TorchFormat.isTorch(start) {
      let file = try TorchFile(.mapped(file), path: path, tree: choice)
      (store, tree, isAverage) = (file, file.tree, file.isAverage)
      (trees, arguments) = (file.trees, file.arguments)
      return
    }
    // Eight bytes with the header's length, then the header.
    guard start.count > 8, start[8] == UInt8(ascii: "{") else {
      throw DiTError(
        file: path, .entry("state dict"),
        expected: "a safetensors file (a header that starts with '{') or a torch .pt file (a ZIP archive, or a pickle)",
        found: TorchFormat.description(start, count: file.count))
    }
    let tensors = try SafetensorsFile(.mapped(file), path: path)
    (trees, arguments) = ([], ProgramArguments())
    guard choice != .whole else {
      (store, tree, isAverage) = (tensors, [], false)
      return
    }
    let chosen = try ChosenTree(choice, of: tensors)
    (store, tree, isAverage) = (chosen.store, chosen.path, chosen.isAverage)
  }
}
