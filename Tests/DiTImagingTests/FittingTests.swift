import DiTImaging
import Testing

@Suite("Fitting images to a size") struct FittingTests {
  /// Areas by cumulative sums and interpolation, in Double: the same but for ties that Float rounds the other way.
  @Test(
    "Fitting agrees with area averaging in NumPy within one level",
    arguments: Fixtures.pictures.names(ending: ".ppm").filter { $0.contains("x") && $0.hasPrefix("fit_") })
  func fitsAsNumPyDoes(name: String) throws {
    let fields = name.split(separator: "_")
    let source = try Fixtures.pictures.pnm("fit_\(fields[1])")
    let size = fields[2].split(separator: "x").compactMap { Int($0) }
    let image = source.fitted(width: size[0], height: size[1])
    let expected = try Fixtures.pictures.pnm(name)
    expect(image, equals: expected, within: 1, name)
    let differing = zip(image.pixels, expected.pixels).count { $0 != $1 }
    #expect(differing * 20 <= expected.pixels.count, "\(differing) of \(expected.pixels.count) samples differ by 1")
  }

  @Test("All 18 fixtures of fitted images are present")
  func thereAreFixtures() {
    #expect(Fixtures.pictures.names(ending: ".ppm").count { $0.contains("x") && $0.hasPrefix("fit_") } == 18)
  }

  @Test("Fitting an image to its own size changes nothing")
  func theOwnSizeChangesNothing() {
    let image = Image.random(width: 9, height: 5, channels: 3, seed: 1)
    #expect(image.fitted(width: 9, height: 5) == image)
  }

  @Test("An image of one shade keeps that shade at every size", arguments: [0, 1, 127, 254, 255] as [UInt8])
  func aShadeStaysThatShade(shade: UInt8) {
    let image = Image(width: 37, height: 23, channels: 1, shade: shade)
    for (width, height) in [(1, 1), (7, 5), (30, 23), (64, 64), (100, 3), (3, 100)] {
      #expect(image.fitted(width: width, height: height).pixels.allSatisfy { $0 == shade })
    }
  }

  /// One pixel wide or high is no special case, and neither is a great ratio.
  @Test("Images one pixel wide or high and extreme ratios are averaged correctly")
  func thinImagesAreFitted() {
    let line = Image(width: 1, height: 1000, channels: 3, pixels: (0..<3000).map { UInt8($0 / 3 % 256) })
    #expect(line.fitted(width: 1, height: 2).pixels == [243, 243, 243, 244, 244, 244])
    #expect(line.fitted(width: 4, height: 4).pixels.count == 48)
    let row = Image(width: 1000, height: 1, channels: 1, pixels: (0..<1000).map { UInt8($0 / 8) })
    #expect(row.fitted(width: 1, height: 1).pixels == [62])
  }

  @Test("Color becomes gray by Rec. 601 luma, and gray becomes three equal channels")
  func grayIsRec601Luma() throws {
    let (color, gray) = try (Fixtures.pictures.pnm("luma_rgb"), Fixtures.pictures.pnm("luma_grey"))
    expect(color.converted(toChannels: 1), equals: gray, "luma")
    #expect(gray.converted(toChannels: 3).pixels == gray.pixels.flatMap { [$0, $0, $0] })
    #expect(gray.converted(toChannels: 3).converted(toChannels: 1) == gray)
    #expect(color.converted(toChannels: 3) == color)
  }
}
