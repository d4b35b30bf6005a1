/// 8-bit pixels as the models see them.
package enum Pixels {
  /// x/127.5 − 1: 0 becomes −1, 255 becomes 1.
  @inlinable package static func value(_ byte: Float) -> Float { byte / 127.5 - 1 }

  /// A hint, one line, where pixels of this range were probably meant to be black at 0 and not at −1: no picture is without
  /// anything darker than mid-gray. Nil where there is nothing to say.
  package static func note(_ range: ClosedRange<Float>) -> String? {
    guard range.lowerBound >= 0, range.upperBound > 0 else { return nil }
    return "the images lie in [0, 1]; expected is [-1, 1], black at -1: 2x - 1 if these are meant"
  }
}
