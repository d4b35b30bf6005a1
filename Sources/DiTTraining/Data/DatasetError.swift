import DiTFiles

/// Data that cannot be trained on.
public struct DatasetError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What is wrong.
  public enum Problem: Equatable, Sendable {
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

  /// The data's name, a path when they come from a file.
  public let name: String
  /// The tensor.
  public let tensor: String?
  public let problem: Problem

  public init(_ name: String, _ tensor: String?, _ problem: Problem) {
    self.name = name
    self.tensor = tensor
    self.problem = problem
  }

  /// One line: file, tensor, what was expected, what was found.
  public var description: String { "\(FileName.shown(name)): \(tensor.map { "\($0): " } ?? "")\(text)" }

  private var text: String {
    switch problem {
    case .noData(let both):
      both ? "expected images or latents, found both" : "expected a tensor images or latents, found neither"
    case .shape(let expected, let found):
      "expected the shape \(expected), found (\(found.map(String.init).joined(separator: ", ")))"
    case .value(let index, let sample, let found):
      tensor != Dataset.Kind.latents.rawValue
        ? "expected values in [-1, 1], found \(found) at element \(index), in sample \(sample)"
        : "expected finite values, found \(found) at element \(index), in sample \(sample)"
    case .label(let index, let found, let classes):
      "expected \(classes.map { "0 to \($0 - 1)" } ?? "0 or more"), found \(found) at sample \(index)"
    case .noLabels(let classes): "missing; the model has \(classes) classes"
    case .missing(let key): "missing; the model has \(key)"
    case .caption(let index, let found, let limit):
      "expected at most \(limit) bytes, the model's text.length, found \(found) at sample \(index)"
    case .notText(let index): "expected UTF-8 padded with zeros, found something else at sample \(index)"
    case .classNames(let expected, let found): "expected \(expected), found \(found)"
    case .unusable(let words): FileName.shown(words)
    case .nothingToTrain(let count, let modulus):
      "of \(count) samples none is left to train on with validation_modulus \(modulus)"
    }
  }
}
