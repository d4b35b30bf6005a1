import DiTFiles
import DiTTensor

/// What is wrong with data that are to be trained on.
public enum DatasetProblem: Equatable, Sendable {
  /// Neither `images` nor `latents`, or both.
  case noData(both: Bool)
  case shape(expected: String, found: [Int])
  /// An image's element outside [−1, 1], or a latent's that is not finite.
  case value(index: Int, sample: Int, found: Float)
  /// A label below 0 or not below `classes`.
  case label(index: Int, found: Int, classes: Int?)
  /// A model with classes and data without labels.
  case noLabels(classes: Int)
  /// A model with `key` and data without what it needs.
  case missing(for: String)
  /// A caption of more bytes than the model's `text.length`.
  case caption(index: Int, found: Int, limit: Int)
  /// A caption that is no zero-padded UTF-8.
  case notText(index: Int)
  /// Names that are no list of different names, or fewer than the labels need.
  case classNames(expected: String, found: String)
  /// No sample is left to train on.
  case nothingToTrain(count: Int, modulus: Int)
  /// A folder that holds no data, or an image that cannot be read, is damaged or has changed: in words.
  case unusable(String)
}

extension DiTError {
  /// The data `name` (a path when they come from a file) cannot be trained on.
  package init(data name: String, _ part: Part?, _ problem: DatasetProblem) {
    let subject = Subject(file: name, part)
    switch problem.words(about: part) {
    case .expectation(let expected, let found):
      self.init(.data, subject, expected: expected, found: found, cause: problem)
    case .sentence(let words): self.init(.data, subject, problem: words, cause: problem)
    }
  }
}

extension DatasetProblem {
  fileprivate enum Words {
    case expectation(String, String)
    case sentence(String)
  }

  fileprivate func words(about part: DiTError.Part?) -> Words {
    switch self {
    case .noData(let both):
      both ? .expectation("images or latents", "both") : .expectation("a tensor images or latents", "neither")
    case .shape(let expected, let found):
      .expectation("the shape \(expected)", "(\(found.map(String.init).joined(separator: ", ")))")
    case .value(let index, let sample, let found):
      .expectation(
        part == .tensor(Dataset.Kind.latents.rawValue) ? "finite values" : "values in [-1, 1]",
        "\(found) at element \(index), in sample \(sample)")
    case .label(let index, let found, let classes):
      .expectation(classes.map { "0 to \($0 - 1)" } ?? "0 or more", "\(found) at sample \(index)")
    case .noLabels(let classes): .sentence("missing; the model has \(classes) classes")
    case .missing(let key): .sentence("missing; the model has \(key)")
    case .caption(let index, let found, let limit):
      .expectation("at most \(limit) bytes, the model's text.length", "\(found) at sample \(index)")
    case .notText(let index): .expectation("UTF-8 padded with zeros", "something else at sample \(index)")
    case .classNames(let expected, let found): .expectation(expected, found)
    case .unusable(let words): .sentence(FileName.shown(words))
    case .nothingToTrain(let count, let modulus):
      .sentence("of \(count) samples none is left to train on with validation_modulus \(modulus)")
    }
  }
}
