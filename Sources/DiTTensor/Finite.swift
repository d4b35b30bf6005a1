// Numbers that are none: a picture, latents or noise are never made of them.

extension Span where Element == Float {
  /// The index of the first element that is NaN or infinite; nil where all are finite. Reads at the speed of memory.
  public var firstNotFinite: Int? {
    let block = 4096
    return unsafe withUnsafeBufferPointer { elements in
      for start in stride(from: 0, to: elements.count, by: block) {
        let end = min(start + block, elements.count)
        // An exponent of ones carries into the sign's place. No branch, so that the loop becomes a vector loop.
        var carries: UInt32 = 0
        for index in start..<end {
          carries |= (unsafe elements[index].bitPattern & 0x7F80_0000) &+ 0x0080_0000
        }
        if carries & 0x8000_0000 != 0 { return (start..<end).first { unsafe !elements[$0].isFinite } }
      }
      return nil
    }
  }

  /// What is wrong with images (N, …): as in `nan in image 3`; nil where all elements are finite.
  ///
  /// - Parameter images: N.
  package func notFinite(images: Int) -> (image: Int, value: Float)? {
    guard let index = firstNotFinite else { return nil }
    return (index / Swift.max(1, count / Swift.max(1, images)), self[index])
  }
}

extension Tensor {
  /// What is wrong with a tensor (N, …) of which an element is NaN or infinite, as in `nan in image 3`; nil where all are
  /// finite.
  package var notFinite: String? {
    guard let (image, value) = elements.span.notFinite(images: shape.first ?? 1) else { return nil }
    return "\(OverflowError.text(value)) in image \(image)"
  }
}

/// A result that holds NaN or infinity although all that it was computed from was finite: the arithmetic has overflowed.
public struct OverflowError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What was computed, as in `samples`.
  public let name: String
  /// Which of the images, 0 for the first.
  public let image: Int
  /// The number that was found: NaN or ±infinity.
  public let found: String
  /// When it happened, as in `at step 3 of 50`; empty where there is nothing to say.
  public let place: String

  public init(_ name: String, image: Int, found: Float, place: String = "") {
    self.name = name
    self.image = image
    self.found = Self.text(found)
    self.place = place
  }

  /// The same of a part that begins with image `first` of the whole.
  package func moved(by first: Int) -> OverflowError {
    OverflowError(name, image: first + image, found: found, place: place)
  }

  /// The same, said to have happened at `place`, and how.
  package func placed(_ place: String) -> OverflowError {
    OverflowError(name, image: image, found: found, place: self.place.isEmpty ? place : "\(place) \(self.place)")
  }

  /// `nan` whatever its sign bit, which means nothing.
  fileprivate static func text(_ value: Float) -> String { value.isNaN ? "nan" : "\(value)" }

  private init(_ name: String, image: Int, found: String, place: String) {
    (self.name, self.image, self.found, self.place) = (name, image, found, place)
  }

  /// One line.
  public var description: String {
    "\(name): expected finite numbers, found \(found) in image \(image)\(place.isEmpty ? "" : " \(place)"): overflow"
  }
}
