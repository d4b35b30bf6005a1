import DiTImaging
import DiTTensor
import Foundation
import Testing

@Suite("Encoding and decoding PNG") struct PNGTests {
  @Test("An encoded image decodes to itself", arguments: [1, 3], [(1, 1), (3, 5), (7, 2), (97, 41)])
  func roundTrips(channels: Int, size: (width: Int, height: Int)) throws {
    let image = Image.random(width: size.width, height: size.height, channels: channels, seed: 3)
    #expect(try Image(encoded: image.pngData()) == image)
  }

  @Test(
    "PNGs of every color type, depth and interlacing decode to the fixture's pixels",
    arguments: Fixtures.imaging.names(ending: ".pgm") + Fixtures.imaging.names(ending: ".ppm"))
  func readsEveryKind(name: String) throws {
    let image = try Image(contentsOf: Fixtures.imaging.path(name + ".png"))
    try expect(image, equals: Fixtures.imaging.pnm(name), name)
  }

  @Test("All 51 valid and all broken PNG fixtures are present")
  func thereAreFixturesOfEveryKind() {
    #expect(Fixtures.imaging.names(ending: ".pgm").count + Fixtures.imaging.names(ending: ".ppm").count == 51)
    #expect(
      Set(Fixtures.imaging.names(ending: ".png").filter { $0.hasPrefix("broken_") })
        == Set(Self.broken.map { "broken_" + $0.0 }))
  }

  /// What each broken file is refused with, up to libpng's words.
  static let broken: [(String, String)] = [
    ("empty", "an empty file"), ("not_a_png", "a GIF file"), ("truncated_signature", "truncated"),
    ("truncated_header", "truncated"),
    ("truncated_pixels", "truncated"), ("truncated_end", "truncated"), ("crc_header", "IHDR: CRC error"),
    ("crc_text", "tEXt: CRC error"),
    ("crc_pixels", "IDAT: CRC error"), ("stream_short", "damaged"), ("stream_damaged", "damaged"),
    ("palette_missing", "damaged"), ("palette_exceeded", "a pixel of color 200 of a palette of 200"),
    ("zero_width", "damaged"), ("depth_3", "damaged"), ("pixels_missing", "damaged"), ("huge", "60000×50000"),
    ("huge_2e31", "2147483647×2147483647"), ("claims_more", "truncated"),
  ]

  @Test("Each broken PNG is refused in one line that says what is wrong", arguments: broken)
  func refusesBrokenFiles(name: String, words: String) throws {
    let path = Fixtures.imaging.path("broken_\(name).png")
    let error = #expect(throws: DiTError.self) { try Image(contentsOf: path) }
    let text = error.map(String.init(describing:)) ?? ""
    #expect(text.hasPrefix(path + ": ") && text.contains(words) && !text.contains("\n"), "\(text)")
  }

  /// A header may claim 2³¹ rows and columns where the caller sets no limit: the file's own length still refuses it.
  @Test("Without limits, a header that claims more than the file holds is still refused")
  func unlimitedReadingIsSafe() throws {
    let limits = ImageLimits(pixels: .max, side: .max, memoryBytes: .max)
    let data = try Fixtures.imaging.bytes("broken_huge.png")
    #expect(throws: DiTError(image: nil, .truncated(.png))) { try Image(encoded: data, limits: limits) }
    let larger = try Fixtures.imaging.bytes("broken_huge_2e31.png")
    let error = #expect(throws: DiTError.self) { try Image(encoded: larger, limits: limits) }
    #expect(error?.imaging != nil && error?.kind == .content, "\(error.map { "\($0)" } ?? "")")
  }

  /// Every beginning of a file is refused, and so is every file with one bit flipped, unless it is a bit nothing depends on.
  @Test("Every prefix of a PNG and every single flipped bit is refused")
  func noDamageGoesUnnoticed() throws {
    let image = Image.random(width: 5, height: 4, channels: 3, seed: 4)
    let data = try image.pngData(text: [("seed", "7")])
    let accepted = (0..<data.count).filter { (try? Image(encoded: Array(data[..<$0]))) != nil }
    #expect(accepted.isEmpty, "beginnings of \(accepted) bytes were read")
    var unnoticed: [Int] = []
    for bit in 0..<data.count * 8 {
      var damaged = data
      damaged[bit / 8] ^= 1 << UInt8(bit % 8)
      if (try? Image(encoded: damaged)) != nil { unnoticed.append(bit) }
    }
    #expect(unnoticed.isEmpty, "flipped bits \(unnoticed) were not noticed")
  }

  @Test("Text entries are stored, read back equal and leave the pixels as they are")
  func textIsStored() throws {
    let image = Image.random(width: 3, height: 3, channels: 1, seed: 5)
    let entries = [("seed", "42"), ("Comment", "two\nlines, café"), ("prompt", "家 and Ω"), ("empty", "")]
    let data = try image.pngData(text: entries)
    #expect(try PNGText.entries(inPNG: data) == entries.map { PNGText(key: $0.0, value: $0.1) })
    #expect(try Image(encoded: data) == image)
    #expect(try image.pngData(text: entries) == data)
    #expect(try image.pngData() != data && PNGText.entries(inPNG: image.pngData()) == [])
  }

  @Test("Text written by other programs is read, and every truncation of the file is refused")
  func textOfOthersIsRead() throws {
    let expected = [PNGText(key: "Software", value: "by hand, é"), PNGText(key: "Prompt", value: "ein Haus, 家")]
    #expect(try PNGText.entries(inPNG: Fixtures.imaging.bytes("chunks.png")) == expected)
    #expect(throws: DiTError(image: nil, .truncated(.png))) {
      try PNGText.entries(inPNG: Fixtures.imaging.bytes("broken_truncated_pixels.png"))
    }
    let data = try Fixtures.imaging.bytes("chunks.png")
    for count in 1..<data.count {
      #expect(throws: DiTError(image: nil, .truncated(.png))) { try PNGText.entries(inPNG: Array(data[..<count])) }
    }
    #expect(throws: DiTError(image: nil, .unrecognized("a GIF file"))) {
      try PNGText.entries(inPNG: Fixtures.imaging.bytes("broken_not_a_png.png"))
    }
  }

  @Test(
    "Keys and values that PNG does not allow are refused by key",
    arguments: [
      ("", "x"), (" a", "x"), ("a ", "x"), ("a  b", "x"), ("ü", "x"), ("a\n", "x"),
      (String(repeating: "k", count: 80), "x"), ("a", "x\0y"),
    ])
  func refusesTextThatCannotBeStored(key: String, value: String) {
    let image = Image(width: 1, height: 1, channels: 1, shade: 0)
    let error = #expect(throws: DiTError.self) { try image.pngData(text: [(key, value)]) }
    guard case .invalidText(let named, _) = error?.imaging else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(named == key)
  }
}
