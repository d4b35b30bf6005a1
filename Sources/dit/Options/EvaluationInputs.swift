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

  /// - Parameters:
  ///   - size: `--size`.
  ///   - keepsPictures: whether all decoded pictures stay in memory, as for measures that look at them over and over; else those that
  ///     fit 512 MiB.
  /// - Throws: ``Failure``, `DiTError`, and what opening a file throws.
  init(samples: String?, reference: String, training: String?, size: PictureSize?, keepsPictures: Bool) throws {
    func source(_ name: String) -> EvaluationSource { EvaluationSource(name, keepsPictures: keepsPictures) }
    let (given, wanted) = (samples.map { source($0) }, source(reference))
    // Pictures are read at the size of the other set.
    let shown = wanted.isPictures && given?.isPictures == false ? try given?.open() : nil
    let real = try wanted.open(pictureShape: { own in
      try Self.pictureShape(size, shown, wanted, own ?? given?.pictureShape())
    })
    // What a sampler left are latents where the reference has latents.
    let preferring: [SampleSet.Kind] = real.kind == .latents ? [.latents, .samples] : []
    let opened =
      try shown
      ?? given.map { source in
        try source.open(preferring: preferring) { try Self.pictureShape(size, real, source, $0) }
      }
    let training = try training.map { name in
      let source = source(name)
      let input = try source.open(preferring: preferring) { try Self.pictureShape(size, real, source, $0) }
      guard let set = input.input.set else {
        throw Failure.input(name, "set", expected: "images to look for copies in", found: "statistics")
      }
      return (set, input.classNames)
    }
    (self.reference, self.samples, self.training) = (real.input, opened?.input, training?.0)
    classNames = real.classNames ?? training?.1 ?? opened?.classNames
  }

  /// A reference by name, its pictures read at a model's size.
  ///
  /// - Throws: ``Failure``, `DiTError`, and what opening a file throws.
  static func set(named name: String, shape: [Int], isLatents: Bool) throws -> EvaluationInput {
    let source = EvaluationSource(name, keepsPictures: false)
    if isLatents, source.isPictures {
      throw DiTError(
        key: "training.evaluate_reference", expected: "latents \(shape), as the model's samples are", found: "pictures")
    }
    return try source.open(preferring: isLatents ? [.latents, .samples] : []) { _ in shape }.input
  }

  /// (C, H, W) at which pictures are read: `--size`, else those of the `other` set, else their `own`.
  private static func pictureShape(
    _ size: PictureSize?, _ other: EvaluationSource.Opened?, _ pictures: EvaluationSource, _ own: [Int]?
  ) throws(Failure) -> [Int] {
    let shape = other?.input.set?.shape
    if let shape, shape.count != 3 || ![1, 3].contains(shape[0]) {
      throw .input(
        pictures.path, "pictures", expected: "another set of pictures of 1 or 3 channels",
        found: "samples of shape \(shape)")
    }
    if let size { return [shape?[0] ?? own?[0] ?? 3, size.height, size.width] }
    guard let shape = shape ?? own else {
      throw .usage("--size", expected: "the size to read the pictures of \(pictures.path) at", found: "none")
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
  /// Whether it is a folder of pictures, tar archives or IDX, not data that ship with the tool.
  let isPictures: Bool
  private let keepsPictures: Bool

  init(_ name: String, keepsPictures: Bool) {
    self.keepsPictures = keepsPictures
    let words = name.split(separator: ":", omittingEmptySubsequences: false)
    part = words.count > 1 ? SampleSet.Part(rawValue: String(words[words.count - 1])) : nil
    self.name = name
    path = part == nil ? name : words.dropLast().joined(separator: ":")
    let shipped = ShippedResources.DataSet.named(path)
    isPictures = shipped == .fashion || (shipped == nil && PictureSets.isOne(path))
  }

  /// - Parameters:
  ///   - preferring: what of a safetensors file is looked for first.
  ///   - pictureShape: (C, H, W) at which pictures are read, given their own where all have the same.
  func open(
    preferring: [SampleSet.Kind] = [], pictureShape: ([Int]?) throws -> [Int] = { $0 ?? [] }
  ) throws -> Opened {
    guard let (pictures, isPart) = try pictures() else { return try self.part(of: whole(preferring)) }
    let opened = try opened(pictures, pictureShape(pictures.shape))
    return isPart ? opened : try self.part(of: opened)
  }

  /// (C, H, W) of pictures that all have the same; else nil.
  func pictureShape() throws -> [Int]? { try pictures()?.set.shape }

  private func pictures() throws -> (set: any PictureSet, isPart: Bool)? {
    guard isPictures else { return nil }
    let place = try ShippedResources.DataSet.named(path)?.images() ?? path
    return try PictureSets.open(place, part: part).map { (set: $0.pictures, isPart: $0.isPart) }
  }

  private func part(of opened: Opened) throws -> Opened {
    guard let part else { return opened }
    guard let set = opened.input.set else {
      throw Failure.input(path, "set", expected: "samples, to take a part of", found: "statistics")
    }
    return Opened(input: .samples(set.part(part, name: name)), kind: opened.kind, classNames: opened.classNames)
  }

  private func whole(_ preferring: [SampleSet.Kind]) throws -> Opened {
    if let shipped = ShippedResources.DataSet.named(path) {
      return try tensors(in: shipped.images(), preferring)
    }
    switch path.split(separator: ".").last?.lowercased() {
    case "safetensors": return try tensors(in: path, preferring)
    case "npz": return Opened(input: try EvaluationInput(npz: path))
    default:
      throw Failure(
        .usage,
        "set: expected digits, emoji, fashion, a .safetensors, .npz or IDX file, or a folder or tar archives of pictures, :train or "
          + ":test behind it, found \(name)")
    }
  }

  /// Pictures, (C, H, W), in memory at one byte per value.
  private func opened(_ pictures: any PictureSet, _ shape: [Int]) throws -> Opened {
    let data = try pictures.dataset(
      channels: shape[0], height: shape[1], width: shape[2],
      options: keepsPictures ? PictureOptions(cacheBytes: .max) : PictureOptions()
    ).data
    for note in pictures.notes { StandardError.write("\(note)\n") }
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
