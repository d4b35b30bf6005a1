import DiTImaging
import Foundation
import Testing

@Suite("Reading JPEG") struct JPEGTests {
  /// Byte for byte what Pillow's libjpeg-turbo decodes: gray, YCbCr with every subsampling, RGB, CMYK, YCCK, progressive,
  /// restarts, Exif orientations.
  @Test(
    "JPEGs of every kind decode to the bytes of Pillow's libjpeg-turbo",
    arguments: Fixtures.pictures.names(ending: ".jpg"))
  func decodesAsPillowDoes(name: String) throws {
    let image = try Image(contentsOf: Fixtures.pictures.path(name + ".jpg"))
    try expect(image, equals: Fixtures.pictures.pnm(name), name)
  }

  @Test("All 26 JPEG fixtures are present")
  func thereAreFixtures() { #expect(Fixtures.pictures.names(ending: ".jpg").count == 26) }

  /// Headers say what decoding gives, before it does.
  @Test(
    "The header gives the width, height and channels that decoding gives",
    arguments: Fixtures.pictures.names(ending: ".jpg"))
  func headersTellTheSize(name: String) throws {
    let path = Fixtures.pictures.path(name + ".jpg")
    let (header, image) = (try ImageHeader(ofFile: path), try Image(contentsOf: path))
    #expect(header.format == .jpeg)
    #expect(header.width == image.width && header.height == image.height && header.channels == image.channels)
  }

  /// Decoding small: at 1/2, 1/4, 1/8 as Pillow's `draft` does, and only while that is twice the wanted size.
  @Test(
    "Decoding at 1/2, 1/4 or 1/8 is used only while that is twice the wanted size",
    arguments: [
      (width: 6, height: 5, divisor: 8), (width: 7, height: 5, divisor: 4), (width: 6, height: 6, divisor: 4),
      (width: 13, height: 10, divisor: 4), (width: 14, height: 10, divisor: 2), (width: 26, height: 20, divisor: 2),
      (width: 27, height: 20, divisor: 1), (width: 26, height: 21, divisor: 1), (width: 200, height: 200, divisor: 1),
    ])
  func decodesSmallerWhereThatIsEnough(width: Int, height: Int, divisor: Int) throws {
    let path = Fixtures.pictures.path("large.jpg")
    let image = try Image(contentsOf: path, fittedTo: (width, height), reducing: true)
    let expected = try Fixtures.pictures.pnm(divisor == 1 ? "large" : "large_\(divisor)")
    expect(image, equals: expected.fitted(width: width, height: height), "\(width)×\(height)")
    let exact = try Fixtures.pictures.pnm("large").fitted(width: width, height: height)
    #expect(try Image(contentsOf: path, fittedTo: (width, height)) == exact)
  }

  /// Whichever way an image was decoded, it is fitted to the same: also turned, and where the last block is cut.
  @Test(
    "Decoding small and fitting agrees with fitting the whole image, in all eight orientations",
    arguments: [(6, 4), (12, 9), (25, 18), (5, 9), (9, 12)], [1, 2, 3, 4, 5, 6, 7, 8])
  func decodingSmallerMovesNothing(size: (width: Int, height: Int), orientation: Int) throws {
    let data = try Fixtures.pictures.turned("ragged.jpg", orientation)
    let small = try Image(encoded: data, fittedTo: size, reducing: true)
    let whole = try Image(encoded: data, fittedTo: size)
    expect(small, equals: whole, within: 2, "\(size), orientation \(orientation)")
    let upright = try Image(encoded: data).fitted(width: size.width, height: size.height)
    expect(whole, equals: upright, within: 1, "\(size), orientation \(orientation), turned before")
  }
}

extension Fixtures {
  /// A JPEG with an Exif orientation.
  fileprivate func turned(_ name: String, _ orientation: Int) throws -> [UInt8] {
    let exif: [UInt8] = [
      0xFF, 0xE1, 0, 34, 0x45, 0x78, 0x69, 0x66, 0, 0, 0x4D, 0x4D, 0, 0x2A, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1,
      0,
      UInt8(orientation), 0, 0, 0, 0, 0, 0,
    ]
    let data = try bytes(name)
    return data[..<2] + exif + data[2...]
  }
}
