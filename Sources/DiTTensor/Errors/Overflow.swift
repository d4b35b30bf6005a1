/// A result that holds NaN or infinity although all that it was computed from was finite: the arithmetic has overflowed.
public struct Overflow: Equatable, Sendable {
  /// What was computed, as in `samples`.
  public let name: String
  /// Which of the images, 0 for the first.
  public let image: Int
  /// The number that was found: NaN or ±infinity.
  public let found: String
  /// When it happened, as in `at step 3 of 50`; empty where there is nothing to say.
  public let place: String

  /// `nan` whatever its sign bit, which means nothing.
  package static func text(_ value: Float) -> String { value.isNaN ? "nan" : "\(value)" }

  /// What was found, where and when.
  var summary: String { "\(found) in image \(image)\(place.isEmpty ? "" : " \(place)")" }
}

extension DiTError {
  /// Arithmetic has overflowed.
  package init(overflow name: String, image: Int, found: Float, place: String = "") {
    self.init(Overflow(name: name, image: image, found: Overflow.text(found), place: place))
  }

  private init(_ overflow: Overflow) {
    self.init(
      .numbers, Subject(.argument(overflow.name)), expected: "finite numbers", found: overflow.summary, place: "",
      note: ": overflow", cause: overflow)
  }

  /// The overflow that this error is about; nil where it is about something else.
  package var overflow: Overflow? { cause() }

  /// An overflow in a part that begins with image `first` of the whole; every other error as it is.
  package func moved(by first: Int) -> DiTError {
    guard let overflow else { return self }
    let image = first + overflow.image
    return DiTError(Overflow(name: overflow.name, image: image, found: overflow.found, place: overflow.place))
  }

  /// An overflow said to have happened at `place`, and how; every other error as it is.
  package func placed(_ place: String) -> DiTError {
    guard let overflow else { return self }
    let whole = overflow.place.isEmpty ? place : "\(place) \(overflow.place)"
    return DiTError(Overflow(name: overflow.name, image: overflow.image, found: overflow.found, place: whole))
  }
}
