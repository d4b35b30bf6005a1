import DiTImaging
import DiTTensor
import Foundation
import Testing

@Suite("Reading WebP") struct WebPTests {
  static let names = Fixtures.webp.names(ending: ".webp").filter { !$0.hasPrefix("broken_") }

  /// Lossy, lossless, alpha, palettes, profiles, animations, Exif orientations.
  @Test("WebPs of every kind decode to the bytes of Pillow's libwebp", arguments: names)
  func decodesAsPillowDoes(name: String) throws {
    let image = try Image(contentsOf: Fixtures.webp.path(name + ".webp"))
    try expect(image, equals: Fixtures.webp.pnm(name), name)
  }

  @Test("All 28 valid and all broken WebP fixtures are present")
  func thereAreFixtures() {
    #expect(Self.names.count == 28)
    let broken = Fixtures.webp.names(ending: ".webp").filter { $0.hasPrefix("broken_") }
    #expect(Set(broken) == Set((Self.broken.map(\.0) + Self.harmless).map { "broken_" + $0 }))
  }

  @Test("The header gives the width, height and channels that decoding gives", arguments: names)
  func headersTellTheSize(name: String) throws {
    let path = Fixtures.webp.path(name + ".webp")
    let (header, image) = (try ImageHeader(ofFile: path), try Image(contentsOf: path))
    #expect(header.format == .webp && header.width == image.width && header.height == image.height)
    #expect(header.channels == (name.contains("alpha") || name == "animated_inside" ? 4 : 3) && image.channels == 3)
  }

  /// What each broken file is refused with.
  static let broken: [(String, String)] = [
    ("truncated", "truncated"), ("truncated_header", "truncated"), ("truncated_signature", "truncated"),
    ("shortened", "truncated"), ("shortened_lossless", "damaged"), ("empty", "truncated"),
    ("no_image", "damaged"), ("other_size", "damaged"), ("frame_outside", "damaged"),
  ]
  /// No pixel depends on what is wrong with these: Pillow reads them too.
  static let harmless = ["exif_missing", "zeros"]

  @Test("Each broken WebP is refused in one line that says what is wrong", arguments: broken)
  func refusesBrokenFiles(name: String, words: String) throws {
    let path = Fixtures.webp.path("broken_\(name).webp")
    let error = #expect(throws: DiTError.self) { try Image(contentsOf: path) }
    let text = error.map(String.init(describing:)) ?? ""
    #expect(text.hasPrefix(path + ": ") && text.contains(words) && !text.contains("\n"), "\(text)")
    let fitted = #expect(throws: DiTError.self) { try Image(contentsOf: path, fittedTo: (3, 3)) }
    #expect(fitted == error)
  }

  @Test("Announced Exif data that are missing do not matter")
  func missingExifIsHarmless() throws {
    #expect(try Image(contentsOf: Fixtures.webp.path("broken_exif_missing.webp")) == Fixtures.webp.pnm("lossy"))
  }

  @Test(
    "Every prefix of a WebP is refused, and a flipped bit gives an image of the header's size or an error",
    arguments: ["lossy_alpha", "lossless_palette", "animated_inside", "exif_6"])
  func damageIsHarmless(name: String) throws {
    expectDamageIsHarmless(try Fixtures.webp.bytes(name + ".webp"))
  }

  @Test("Limits of pixels, side and memory are checked before decoding")
  func limitsAreChecked() throws {
    let lossy = try Fixtures.webp.bytes("lossy.webp")
    let lossless = try Fixtures.webp.bytes("lossless.webp")
    let alpha = try Fixtures.webp.bytes("lossy_alpha.webp")
    for data in [lossy, lossless, alpha] {
      #expect(throws: DiTError(image: nil, .tooManyPixels(width: 45, height: 33, maximum: 1484))) {
        try Image(encoded: data, limits: ImageLimits(pixels: 1484))
      }
      #expect(throws: DiTError(image: nil, .sideTooLong(width: 45, height: 33, maximum: 44))) {
        try Image(encoded: data, limits: ImageLimits(side: 44))
      }
      #expect(try Image(encoded: data, limits: ImageLimits(pixels: 1485, side: 45)).width == 45)
    }
    // Rows, pixels, and what libwebp holds whole: 4 bytes a pixel of a lossless image, 5 of a lossy one's alpha.
    for (data, bytes) in [(lossy, 3), (lossless, 3 + 4), (alpha, 4 + 5)] {
      let needed = 128 * 45 + 1485 * bytes
      #expect(throws: DiTError(image: nil, .tooMuchMemory(bytes: needed, maximum: needed - 1))) {
        try Image(encoded: data, limits: ImageLimits(memoryBytes: needed - 1))
      }
      #expect(try Image(encoded: data, limits: ImageLimits(memoryBytes: needed)).width == 45)
    }
  }

  @Test("Fitting while decoding agrees with fitting what was decoded", arguments: names)
  func fitsAsTheWhole(name: String) throws {
    let path = Fixtures.webp.path(name + ".webp")
    let whole = try Image(contentsOf: path)
    for (width, height) in [(4, 4), (7, 3), (19, 10), (64, 60)] {
      let image = try Image(contentsOf: path, fittedTo: (width, height))
      let isTurned = name.hasPrefix("exif")
      let expected = whole.fitted(width: width, height: height)
      expect(image, equals: expected, within: isTurned ? 1 : 0, "\(width)×\(height)")
    }
  }

  /// Reducing by libwebp, in its own color space, and then to the size differs little from reducing at once.
  @Test(
    "A large lossy WebP is reduced while it is decoded, in less memory and to nearly the same",
    arguments: [(6, 5, 8), (6, 3, 8), (7, 5, 4), (13, 10, 4), (14, 10, 2), (26, 20, 2), (27, 20, 1)])
  func largeOnesAreReduced(width: Int, height: Int, divisor: Int) throws {
    let path = Fixtures.webp.path("large.webp")
    let exact = try Image(contentsOf: path, fittedTo: (width, height))
    var limits = ImageLimits(wholePixels: 208 * 160 - 1)
    let reduced = try Image(contentsOf: path, limits: limits, fittedTo: (width, height))
    expect(reduced, equals: exact, within: 6, "\(width)×\(height)")  // at edges of strong colors
    let differences = zip(reduced.pixels, exact.pixels).map { abs(Int($0) - Int($1)) }
    #expect(differences.reduce(0, +) <= 3 * differences.count / 2, "more than 1.5 levels on average")
    #expect((reduced == exact) == (divisor == 1))
    limits.memoryBytes = 128 * 208 + 3 * 208 * 160 / divisor / divisor
    #expect(try Image(contentsOf: path, limits: limits, fittedTo: (width, height)) == reduced)
    limits.memoryBytes -= 1
    let error = #expect(throws: DiTError.self) {
      try Image(contentsOf: path, limits: limits, fittedTo: (width, height))
    }
    #expect(error?.description.contains("bytes of memory") == true)
    // Not where nothing is gained.
    for name in ["lossless", "lossy_alpha", "animated_inside"] {
      let path = Fixtures.webp.path(name + ".webp")
      let image = try Image(contentsOf: path, limits: ImageLimits(wholePixels: 1), fittedTo: (2, 2))
      #expect(try image == Image(contentsOf: path, fittedTo: (2, 2)))
    }
  }

  @Test("RIFF files of other kinds are no WebPs")
  func otherRIFFs() {
    for kind in ["WAVE", "AVI "] {
      let data = Array("RIFF".utf8) + [4, 0, 0, 0] + Array(kind.utf8)
      #expect(throws: DiTError(image: nil, .unrecognized("bytes of another kind"))) { try Image(encoded: data) }
    }
    #expect(throws: DiTError(image: nil, .unrecognized("a text file"))) { try Image(encoded: Array("RIF".utf8)) }
    #expect(throws: DiTError(image: nil, .truncated(.webp))) { try Image(encoded: Array("RIFF".utf8)) }
  }
}
