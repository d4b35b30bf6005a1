import DiTTensor

/// Why a file holds no autoencoder that this package computes.
public struct AutoencoderFileError: Error, Equatable, Sendable, CustomStringConvertible {
  public let path: String
  /// A tensor or a size.
  public let item: String
  public let expected: String
  public let found: String

  public init(path: String, item: String, expected: String, found: String) {
    self.path = path
    self.item = item
    self.expected = expected
    self.found = found
  }

  public var description: String {
    let text = "\(path): \(item): expected \(expected), found \(found)"
    return text.split(whereSeparator: \.isNewline).joined(separator: " ")
  }
}

/// Images or latents that an autoencoder cannot take.
public struct AutoencoderInputError: Error, Equatable, Sendable, CustomStringConvertible {
  /// `images` or `latents`.
  public let name: String
  public let expected: String
  public let found: String

  public var description: String { "\(name): expected \(expected), found \(found)" }
}
