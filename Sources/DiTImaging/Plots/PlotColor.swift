/// A color of a plot, red, green and blue from 0 to 255.
public struct PlotColor: Equatable, Sendable {
  public let red, green, blue: UInt8

  public init(red: UInt8, green: UInt8, blue: UInt8) {
    self.red = red
    self.green = green
    self.blue = blue
  }

  /// 0xRRGGBB.
  init(_ code: UInt32) {
    self.init(red: UInt8(code >> 16 & 255), green: UInt8(code >> 8 & 255), blue: UInt8(code & 255))
  }

  /// For curves, in this order: of different lightness too, so that they differ to the color-blind, too.
  public static let series = [blue, orange, green, purple, red]

  public static let blue = PlotColor(0x2668B8)
  public static let orange = PlotColor(0xD07018)
  public static let green = PlotColor(0x2E8B57)
  public static let purple = PlotColor(0x8A4FB0)
  public static let red = PlotColor(0xC03040)
  /// For dots that mark places on a curve.
  public static let ink = PlotColor(0x181C24)
  /// For the stems under such dots.
  public static let stem = PlotColor(0xAAB0BA)
  static let grid = PlotColor(0xE4E4E4)
  static let frame = PlotColor(0x9098A4)
  static let background = PlotColor(0xFFFFFF)
  /// Where a heat map has no value.
  static let none = PlotColor(0xD8D8D8)

  /// The color with `share` of itself, from 0 to 1, the rest white.
  public func faded(to share: Double) -> PlotColor {
    mixed(with: .background, share: 1 - share)
  }

  /// (1 − share)·self + share·other, rounded.
  func mixed(with other: PlotColor, share: Double) -> PlotColor {
    func mix(_ a: UInt8, _ b: UInt8) -> UInt8 { UInt8((Double(a) + share * (Double(b) - Double(a))).rounded()) }
    return PlotColor(red: mix(red, other.red), green: mix(green, other.green), blue: mix(blue, other.blue))
  }
}

/// A row of colors from low to high.
public struct ColorMap: Sendable {
  /// Evenly spaced from 0 to 1, straight in between.
  private let anchors: [PlotColor]

  /// matplotlib's default (S. van der Walt and N. Smith, CC0): even steps look even, also in gray and to the color-blind.
  /// Every 8th of its 256 colors; what lies between is within 2 of 255.
  public static let viridis = ColorMap(anchors: viridisCodes.map(PlotColor.init))

  /// The color of a value from 0 to 1; values beyond take the ends.
  public func color(_ value: Double) -> PlotColor {
    let place = min(1, max(0, value)) * Double(anchors.count - 1)
    let below = min(Int(place), anchors.count - 2)
    return anchors[below].mixed(with: anchors[below + 1], share: place - Double(below))
  }

  private static let viridisCodes: [UInt32] = [
    0x440154, 0x470D60, 0x48186A, 0x482374, 0x472D7B, 0x453681, 0x424086, 0x3F4989, 0x3B528B,
    0x375A8D, 0x33638D, 0x2F6A8E, 0x2C728E, 0x297A8E, 0x26818E, 0x23898E, 0x21908C, 0x1F988B,
    0x1F9F88, 0x21A685, 0x28AE80, 0x31B57B, 0x3EBC74, 0x4CC26C, 0x5DC963, 0x6ECE58, 0x82D34C,
    0x96D83F, 0xABDC32, 0xC0DF24, 0xD5E21A, 0xEAE51A, 0xFDE725,
  ]
}
