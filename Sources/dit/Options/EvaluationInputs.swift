import DiTEngine
import DiTPictures

/// The sets that `dit evaluate` is given by name.
struct EvaluationInputs {
  /// Nil where only the reference's statistics are wanted.
  let samples: EvaluationInput?
  let reference: EvaluationInput
  let training: SampleSet?
  /// Names of the classes, where a set has them.
  let classNames: [String]?
  /// Notes for the user, one per line.
  var notes: [String] {
    [samples?.set, reference.set, training].compactMap { $0?.note }.reduce(into: []) { notes, note in
      if !notes.contains(note) { notes.append(note) }
    }
  }

  /// - Parameter size: `--size`.
  /// - Throws: ``Failure``, `DiTError`, and what opening a file throws.
  init(samples: String?, reference: String, training: String?, size: PictureSize?) throws {
    let (given, wanted) = (samples.map { EvaluationSource($0) }, EvaluationSource(reference))
    // A folder is read at the size of the other set.
    let shown = wanted.isFolder && given?.isFolder == false ? try given?.open() : nil
    let real = try wanted.open(folderShape: try Self.folderShape(size, shown, wanted))
    let shape = try Self.folderShape(size, real, given)
    // What a sampler left are latents where the reference has latents.
    let preferring: [SampleSet.Kind] = real.kind == .latents ? [.latents, .samples] : []
    let opened = try shown ?? given.map { try $0.open(preferring: preferring, folderShape: shape) }
    let training = try training.map { name in
      let source = EvaluationSource(name)
      let input = try source.open(preferring: preferring, folderShape: try Self.folderShape(size, real, source))
      guard let set = input.input.set else {
        throw Failure.input(name, "set", expected: "images to look for copies in", found: "statistics")
      }
      return (set, input.classNames)
    }
    (self.reference, self.samples, self.training) = (real.input, opened?.input, training?.0)
    classNames = real.classNames ?? training?.1 ?? opened?.classNames
  }

  /// (C, H, W) at which the pictures of `folder` are read: `--size`, else those of the `other` set.
  ///
  /// - Returns: nil where `folder` is not a folder.
  private static func folderShape(
    _ size: PictureSize?, _ other: EvaluationSource.Opened?, _ folder: EvaluationSource?
  ) throws(Failure) -> [Int]? {
    guard let folder, folder.isFolder else { return nil }
    let shape = other?.input.set?.shape
    if let shape, shape.count != 3 || ![1, 3].contains(shape[0]) {
      throw .input(
        folder.path, "folder", expected: "another set of pictures of 1 or 3 channels",
        found: "samples of shape \(shape)")
    }
    if let size { return [shape?[0] ?? 3, size.height, size.width] }
    guard let shape else {
      throw .usage("--size", expected: "the size to read the folder \(folder.path) at", found: "none")
    }
    return shape
  }
}

/// A set as the command line names it, and which part of it is meant.
private struct EvaluationSource {
  struct Opened {
    let input: EvaluationInput
    /// What a safetensors file called its samples.
    var kind: SampleSet.Kind?
    var classNames: [String]?
  }

  let path: String
  private let name: String
  private let part: SampleSet.Part?
  /// Whether it is a folder of pictures.
  let isFolder: Bool

  init(_ name: String) {
    let words = name.split(separator: ":", omittingEmptySubsequences: false)
    part = words.count > 1 ? SampleSet.Part(rawValue: String(words[words.count - 1])) : nil
    self.name = name
    path = part == nil ? name : words.dropLast().joined(separator: ":")
    isFolder = ShippedResources.DataSet(rawValue: path) == nil && ImageFolder.isFolder(path)
  }

  /// - Parameters:
  ///   - preferring: what of a safetensors file is looked for first.
  ///   - folderShape: (C, H, W) of a folder's pictures.
  func open(preferring: [SampleSet.Kind] = [], folderShape: [Int]? = nil) throws -> Opened {
    let opened = try folderShape.map { try pictures($0) } ?? whole(preferring)
    guard let part else { return opened }
    guard let set = opened.input.set else {
      throw Failure.input(path, "set", expected: "samples, to take a part of", found: "statistics")
    }
    return Opened(input: .samples(set.part(part, name: name)), kind: opened.kind, classNames: opened.classNames)
  }

  private func whole(_ preferring: [SampleSet.Kind]) throws -> Opened {
    if let shipped = ShippedResources.DataSet(rawValue: path) {
      return try tensors(in: shipped.images(), preferring)
    }
    switch path.split(separator: ".").last?.lowercased() {
    case "safetensors": return try tensors(in: path, preferring)
    case "npz": return Opened(input: try EvaluationInput(npz: path))
    default:
      throw Failure(
        .usage,
        "set: expected digits, emoji, a .safetensors or .npz file or a folder of pictures, :train or :test behind it, "
          + "found \(name)")
    }
  }

  /// A folder's pictures, (C, H, W), in memory at one byte per value.
  private func pictures(_ shape: [Int]) throws -> Opened {
    let folder = try ImageFolder(path)
    let data = try folder.dataset(
      channels: shape[0], height: shape[1], width: shape[2], options: ImageFolderOptions(cacheBytes: .max)
    ).data
    for note in folder.notes { StandardError.write("\(note)\n") }
    return Opened(input: .samples(SampleSet(data, name: name)), kind: .images, classNames: data.classNames)
  }

  private func tensors(in file: String, _ preferring: [SampleSet.Kind]) throws -> Opened {
    let (set, kind) = try SampleSet.open(file, name: path, preferring: preferring)
    return Opened(input: .samples(set), kind: kind, classNames: try SampleSet.classNames(of: file))
  }
}

/// `--size`: N, or HxW.
struct PictureSize {
  let height, width: Int

  /// - Throws: ``Failure`` (64).
  init(_ text: String) throws(Failure) {
    let words = text.lowercased().split(separator: "x", omittingEmptySubsequences: false)
    let sides = words.compactMap { Int($0) }.filter { 1...8192 ~= $0 }
    guard sides.count == words.count, 1...2 ~= sides.count else {
      throw .usage("--size", expected: "N or HxW, each 1 to 8192", found: text)
    }
    (height, width) = (sides[0], sides[sides.count - 1])
  }
}
