import DiTImaging
import DiTTensor
import Foundation
import Testing

/// Pictures are fitted while they are decoded, row by row, so that large ones take little memory.
@Suite("Fitting pictures while they are decoded") struct StreamedFittingTests {
  static let sizes = [(1, 1), (2, 3), (5, 4), (9, 5), (13, 7), (19, 10), (29, 23), (40, 50)]
  static let names =
    Fixtures.imaging.names(ending: ".png").filter { !$0.hasPrefix("broken_") }.map { $0 + ".png" }
    + Fixtures.pictures.names(ending: ".jpg").map { $0 + ".jpg" }

  @Test("PNGs and JPEGs of every kind are fitted to the bytes that the whole image gives", arguments: names)
  func fitsAsTheWhole(name: String) throws {
    let fixtures = name.hasSuffix(".png") ? Fixtures.imaging : Fixtures.pictures
    let data = try fixtures.bytes(name)
    let whole = try Image(encoded: data)
    // Turned pictures are turned after they were fitted: sums go another way.
    let isTurned = name.hasPrefix("exif") || name.hasPrefix("orientation")
    for (width, height) in Self.sizes {
      let image = try Image(encoded: data, fittedTo: (width, height))
      let expected = whole.fitted(width: width, height: height)
      expect(image, equals: expected, within: isTurned ? 1 : 0, "\(name) \(width)×\(height)")
    }
  }

  /// Where nothing is resized, of an odd number of rows or columns too many one more goes at the picture's end.
  @Test("A picture that is only cut has the pixels of the upright one's middle, however it was held", arguments: 1...8)
  func turnedPicturesAreCutUpright(orientation: Int) throws {
    for data in [
      try Fixtures.imaging.bytes("exif_\(orientation).png"), try Fixtures.webp.bytes("exif_\(orientation).webp"),
      try Fixtures.pictures.bytes("orientation\(orientation).jpg"),
    ] {
      let whole = try Image(encoded: data)
      for (columns, rows) in [(0, 1), (0, 3), (1, 0), (3, 0)] {
        let (width, height) = (whole.width - columns, whole.height - rows)
        let image = try Image(encoded: data, fittedTo: (width, height))
        let expected = (0..<height).flatMap { row in
          let start = ((row + rows / 2) * whole.width + columns / 2) * whole.channels
          return whole.pixels[start..<start + width * whole.channels]
        }
        #expect(image == Image(width: width, height: height, channels: whole.channels, pixels: expected))
      }
    }
  }

  @Test("A PNG's header gives the size after Exif's orientation, also where it stands behind the pixels")
  func headersAreTurned() throws {
    for name in Fixtures.imaging.names(ending: ".png") where name.hasPrefix("exif") {
      let path = Fixtures.imaging.path(name + ".png")
      let (header, image) = (try ImageHeader(ofFile: path), try Image(contentsOf: path))
      #expect(header.width == image.width && header.height == image.height, "\(name)")
    }
    // Behind more pixels than the first look at a file takes.
    try withTemporaryDirectory { directory in
      let path = directory.appending(path: "long.png").path
      let noise = try Image.random(width: 300, height: 200, channels: 3, seed: 8).pngData()
      let exif = try Fixtures.imaging.bytes("exif_behind.png")
      let chunk = try #require(exif.indices.dropLast(4).first { exif[$0..<$0 + 4].elementsEqual("eXIf".utf8) }) - 4
      try Data(noise.dropLast(12) + exif[chunk...]).write(to: URL(filePath: path))
      let (header, image) = (try ImageHeader(ofFile: path), try Image(contentsOf: path))
      #expect(header.width == 200 && header.height == 300 && image.width == 200)
    }
  }

  @Test("Damage behind the rows that a size needs is refused all the same", arguments: ["png", "jpg"])
  func everythingIsChecked(ending: String) throws {
    let image = Image.random(width: 30, height: 90, channels: 3, seed: 5)
    let data = try ending == "png" ? image.pngData() : Fixtures.pictures.bytes("ycc420.jpg")
    for count in [data.count - 1, data.count - 13, data.count / 2] {
      let cut = Array(data[..<count])
      #expect(throws: DiTError(image: nil, .truncated(ending == "png" ? .png : .jpeg))) {
        try Image(encoded: cut, fittedTo: (30, 2))  // the middle rows
      }
    }
  }

  /// 16384×12288, the largest sensors: 604 MB of pixels.
  @Test("A JPEG of 200 megapixels is fitted in five megabytes, and one row more is refused")
  func largePicturesTakeLittleMemory() throws {
    let large = TinyJPEG(width: 16_384, height: 12_288).bytes
    let limits = ImageLimits(memoryBytes: 5 << 20)
    let image = try Image(encoded: large, limits: limits, fittedTo: (4, 4))
    #expect(image == Image(width: 4, height: 4, channels: 3, shade: 128))
    let whole = #expect(throws: DiTError.self) { try Image(encoded: large) }
    #expect(whole?.description.contains("bytes of memory, more than the limit of 536870912") == true)
    let larger = TinyJPEG(width: 16_384, height: 12_289, blocks: 1).bytes
    #expect(throws: DiTError(image: nil, .tooManyPixels(width: 16_384, height: 12_289, maximum: 3 << 26))) {
      try Image(encoded: larger, fittedTo: (4, 4))
    }
  }

  @Test("A header that claims a row of billions of pixels is refused before memory is taken for it")
  func widthsAreCheckedFirst() throws {
    for name in ["broken_huge.png", "broken_huge_2e31.png", "broken_claims_more.png"] {
      let data = try Fixtures.imaging.bytes(name)
      let error = #expect(throws: DiTError.self) { try Image(encoded: data) }
      let fitted = #expect(throws: DiTError.self) { try Image(encoded: data, fittedTo: (4, 4)) }
      #expect(fitted == error)
      let unlimited = ImageLimits(pixels: .max, side: .max)
      let words = #expect(throws: DiTError.self) { try Image(encoded: data, limits: unlimited, fittedTo: (4, 4)) }
      #expect(words?.description.contains("bytes of memory") == true || words?.imaging == .truncated(.png))
    }
  }

  @Test("What a decoder must hold whole is refused by the limit of memory before it is decoded")
  func wholeImagesAreLimited() throws {
    let scans = TinyJPEG(width: 800, height: 600, scans: [[0], [1], [2]]).bytes
    let limits = ImageLimits(memoryBytes: 3_100_000)  // 2 bytes of coefficients for each of 3 channels, and a few rows
    #expect(try Image(encoded: scans, limits: limits, fittedTo: (8, 6)).pixels.allSatisfy { $0 == 128 })
    let error = #expect(throws: DiTError.self) {
      try Image(encoded: scans, limits: ImageLimits(memoryBytes: 2_970_287), fittedTo: (8, 6))
    }
    #expect(error?.description.contains("bytes of memory") == true)
    let bomb = try Image(width: 2000, height: 3000, channels: 3, shade: 9).pngData()
    #expect(
      try Image(encoded: bomb, limits: ImageLimits(memoryBytes: 400_000), fittedTo: (2, 3)).pixels
        .allSatisfy { $0 == 9 })
  }
}
