/// 8-bit pixels as the models see them.
package enum Pixels {
  /// x/127.5 − 1: 0 becomes −1, 255 becomes 1.
  @inlinable package static func value(_ byte: Float) -> Float { byte / 127.5 - 1 }
}
