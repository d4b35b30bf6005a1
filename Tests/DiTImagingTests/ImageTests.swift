import DiTImaging
import Testing

@Suite("Images and their samples") struct ImageTests {
  /// clamp(127.5x + 128, 0, 255) truncated, worked out by hand.
  @Test(
    "A value becomes clamp(127.5 x + 128, 0, 255), truncated",
    arguments: [
      (-1, 0), (-0.996, 1), (-0.5, 64), (-0.003, 127), (0, 128), (0.007, 128), (0.008, 129), (0.5, 191), (0.99, 254),
      (1, 255),
      (-1.004, 0), (-1.1, 0), (-3, 0), (1.004, 255), (7, 255), (3e38, 255), (-3e38, 0),
    ] as [(Float, UInt8)])
  func samplesFollowTheEvaluationFormula(x: Float, expected: UInt8) {
    let image = Image(planes: [x], channels: 1, height: 1, width: 1)
    #expect(image.pixels == [expected], "x = \(x): \(image.pixels[0]), expected \(expected)")
  }

  @Test("A picture is never made of numbers that are not finite: to try is a program's mistake")
  func noPictureOfNaN() async {
    await #expect(processExitsWith: .failure) { _ = Image(planes: [0, .nan], channels: 1, height: 1, width: 2) }
    await #expect(processExitsWith: .failure) { _ = Image(planes: [-.infinity], channels: 1, height: 1, width: 1) }
  }

  /// Values in the middle of each level's interval, so that rounding of the product cannot matter.
  @Test("Each of the 256 levels is reached from the middle of its interval")
  func everyLevelIsReached() {
    let middles = (0...255).map { Float((Double($0) + 0.5 - 128) / 127.5) }
    let image = Image(planes: middles, channels: 1, height: 16, width: 16)
    #expect(image.pixels == (0...255).map { UInt8($0) })
  }

  @Test("Planes (C, H, W) become pixels (row, column, channel)")
  func planesBecomeInterleaved() {
    let (height, width) = (3, 5)
    let levels = (0..<3 * height * width).map { UInt8($0 * 5) }  // (C, H, W)
    let planes = levels.map { (Float($0) + 0.5 - 128) / 127.5 }
    let image = Image(planes: planes.span, channels: 3, height: height, width: width)
    var wrong = 0
    for channel in 0..<3 {
      for row in 0..<height {
        for column in 0..<width {
          let expected = levels[(channel * height + row) * width + column]
          wrong += image[row: row, column: column, channel: channel] == expected ? 0 : 1
        }
      }
    }
    #expect(wrong == 0, "\(wrong) samples of \(levels.count) at another place")
    #expect(image.pixels[3] == levels[1] && image.pixels[1] == levels[15], "pixels are (row, column, channel)")
  }

  @Test("Writing through the subscript changes one sample")
  func theSubscriptWritesOneSample() {
    var image = Image(width: 3, height: 2, channels: 3, shade: 9)
    image[row: 1, column: 2, channel: 1] = 200
    var expected = [UInt8](repeating: 9, count: 18)
    expected[(1 * 3 + 2) * 3 + 1] = 200
    #expect(image.pixels == expected)
  }

  @Test(
    "The display scale is the least whole factor that reaches 96 pixels",
    arguments: [
      (8, 8, 12), (1, 1, 96), (95, 95, 2), (96, 96, 1), (97, 3, 1), (3, 50, 2), (48, 48, 2), (47, 47, 3), (256, 256, 1),
    ])
  func displayScaleReaches96(width: Int, height: Int, expected: Int) {
    #expect(Image.displayScale(width: width, height: height) == expected)
  }

  @Test("Scaling by a whole factor repeats each pixel", arguments: [1, 3], [1, 2, 3, 7])
  func scalingRepeatsPixels(channels: Int, factor: Int) {
    let image = Image.random(width: 5, height: 3, channels: channels, seed: 1)
    let large = image.scaled(by: factor)
    var wrong = 0
    for row in 0..<3 * factor {
      for column in 0..<5 * factor {
        for channel in 0..<channels {
          let source = image[row: row / factor, column: column / factor, channel: channel]
          wrong += large[row: row, column: column, channel: channel] == source ? 0 : 1
        }
      }
    }
    #expect(large.width == 5 * factor && large.height == 3 * factor && wrong == 0, "\(wrong) samples differ")
  }
}
