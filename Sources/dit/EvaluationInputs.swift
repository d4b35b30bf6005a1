import DiffusionTransformers

/// The sets that `dit evaluate` is given by name.
struct EvaluationInputs {
  /// Nil where only the reference's statistics are wanted.
  let samples: EvaluationInput?
  let reference: EvaluationInput
  let training: SampleSet?
  /// Names of the classes, where a set has them.
  let classNames: [String]?

  /// - Throws: ``Failure``, `EvaluationError`, and what opening a file throws.
  init(samples: String?, reference: String, training: String?) throws {
    let real = try EvaluationSource(reference).open()
    // What a sampler left are latents where the reference has latents.
    let preferring: [SampleSet.Kind] = real.kind == .latents ? [.latents, .samples] : []
    let opened = try samples.map { try EvaluationSource($0).open(preferring: preferring) }
    let training = try training.map { name in
      let input = try EvaluationSource(name).open(preferring: preferring)
      guard let set = input.input.set else {
        throw Failure.input(name, "set", expected: "images to look for copies in", found: "statistics")
      }
      return (set, input.classNames)
    }
    (self.reference, self.samples, self.training) = (real.input, opened?.input, training?.0)
    classNames = real.classNames ?? training?.1 ?? opened?.classNames
  }
}

/// A set by the name that the command line gives it: what it is, and which part of it is meant.
private struct EvaluationSource {
  struct Opened {
    let input: EvaluationInput
    /// What a safetensors file called its samples.
    var kind: SampleSet.Kind?
    var classNames: [String]?
  }

  private enum Part: String {
    case test, train

    /// Whether a sample belongs to it: every fifth is for tests, as in Scripts/judge_digits.py.
    func contains(_ index: Int) -> Bool { (index % 5 == 4) == (self == .test) }
  }

  private let name, path: String
  private let part: Part?

  init(_ name: String) {
    let words = name.split(separator: ":", omittingEmptySubsequences: false)
    part = words.count > 1 ? Part(rawValue: String(words[words.count - 1])) : nil
    self.name = name
    path = part == nil ? name : words.dropLast().joined(separator: ":")
  }

  func open(preferring: [SampleSet.Kind] = []) throws -> Opened {
    let opened = try whole(preferring)
    guard let part else { return opened }
    guard let set = opened.input.set else {
      throw Failure.input(path, "set", expected: "samples, to take a part of", found: "statistics")
    }
    let subset = set.subset((0..<set.count).filter(part.contains), name: name)
    return Opened(input: .samples(subset), kind: opened.kind, classNames: opened.classNames)
  }

  private func whole(_ preferring: [SampleSet.Kind]) throws -> Opened {
    if let shipped = ShippedResources.DataSet(rawValue: path) {
      return try tensors(in: shipped.images(), preferring)
    }
    switch path.split(separator: ".").last?.lowercased() {
    case "safetensors": return try tensors(in: path, preferring)
    case "npz": return Opened(input: try NPZReader(path).evaluationInput(name: path))
    default:
      throw Failure(
        .usage, "set: expected digits, emoji, a .safetensors or an .npz file, :train or :test behind it, found \(name)")
    }
  }

  private func tensors(in file: String, _ preferring: [SampleSet.Kind]) throws -> Opened {
    let (set, kind) = try SampleSet.open(file, name: path, preferring: preferring)
    return Opened(input: .samples(set), kind: kind, classNames: try Self.classNames(of: file))
  }

  /// The `class_names` of a file's metadata: a JSON array of strings.
  private static func classNames(of path: String) throws -> [String]? {
    let file = try SafetensorsFile(contentsOf: path)
    guard let text = file.metadata["class_names"] else { return nil }
    guard case .array(let values)? = try? JSONValue(parsing: Array(text.utf8), file: path) else { return nil }
    let names = values.compactMap { if case .string(let name) = $0 { name } else { nil } }
    return names.count == values.count ? names : nil
  }
}
