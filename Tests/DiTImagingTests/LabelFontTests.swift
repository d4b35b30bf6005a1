import DiTImaging
import DiTTensor
import Foundation
import Testing

@Suite("Labels that are not ASCII") struct LabelFontTests {
  /// A few characters of WenQuanYi Micro Hei, with a kerned pair (fonts.py).
  private let font: LabelFont

  init() throws { font = try LabelFont(contentsOf: Fixtures.fonts.path("microhei.ttf")) }

  // MARK: - What is drawn

  /// A line of fonts.py, where it stands: centered above an image, with a font pixel below it.
  struct Line: Sendable, CustomTestStringConvertible {
    let name, text: String
    let scale: Int
    /// The image above which it stands; its lower side decides the scale.
    var width = 400
    var height: Int { width == 100 ? 100 : 50 * scale }

    var testDescription: String { name }
  }

  static let lines = [
    Line(name: "chinese", text: "T恤 连衣裙", scale: 2),
    Line(name: "chinese_small", text: "凉鞋运动短靴", scale: 1),
    Line(name: "chinese_large", text: "套头衫", scale: 3),
    Line(name: "others", text: "éΩЖ한글あカ", scale: 2),
    Line(name: "kerned", text: "AVA衣", scale: 3),
    Line(name: "mark", text: "e\u{301}é", scale: 3),
    // One step smaller than usual, and then 93 of 100 pixels; one more character would take 105.
    Line(name: "shortened", text: "裤子外包裤子外包裤子", scale: 1, width: 100),
  ]

  @Test(
    "Lines of text are those of another renderer: every glyph, advance, kerning, mark and base line", arguments: lines)
  func linesAreDrawnAsTheirOutlinesSay(line: Line) throws {
    let (width, height) = (line.width, line.height)
    let expected = try Fixtures.fonts.pnm(line.name)
    let grid = ImageGrid(
      [Image(width: width, height: height, channels: 1, shade: 0)], columns: 1, imageLabels: [line.text], scale: 1,
      font: font)
    let place = grid.origin(ofImage: 0)
    let left = place.x + (width - expected.width) / 2
    let top = place.y - line.scale - expected.height
    let drawn = Self.part(
      of: grid.rendered(), x: left, y: top, width: expected.width, height: expected.height)
    // FreeType takes curves for straight within 1/16 pixel: 14 of 218 shades, at most twice in a pixel, and seldom.
    expect(drawn, equals: expected, within: 20, line.name)
    let differences = zip(drawn.pixels, expected.pixels).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }
    #expect(differences < 2 * drawn.pixels.count, "\(differences) shades in \(drawn.pixels.count) pixels")
    let ink = grid.rendered().pixels[..<((place.y - 1) * grid.width)].count { $0 < 240 }
    #expect(ink == drawn.pixels.count { $0 < 240 }, "nothing is drawn beside the line")
  }

  @Test("Color images get the same ink in every channel")
  func colorImages() {
    func grid(_ channels: Int) -> Image {
      let image = Image(width: 100, height: 100, channels: channels, shade: 0)
      return ImageGrid([image], columns: 1, imageLabels: ["衣"], font: font).rendered()
    }
    let (gray, color) = (grid(1), grid(3))
    #expect(color.pixels == gray.pixels.flatMap { [$0, $0, $0] })
  }

  @Test("A character that the font has not is a box among those it has; ASCII it has not is the built-in font's")
  func missingCharacters() {
    #expect(drawn("衣☃") == drawn("衣𠀀"), "two that are missing look alike")
    #expect(drawn("衣☃") != drawn("衣裙") && drawn("衣☃") != drawn("衣"))
    #expect(drawn("衣q") != drawn("衣☃") && drawn("衣q") != drawn("衣"))
    #expect(drawn("衣\u{7}") == drawn("衣☃"), "so is a control character")
    #expect(drawn("衣\u{200D}\u{FE0F}") == drawn("衣"), "what is never seen is not drawn")
    #expect(drawn("衣\t裙") == drawn("衣 裙") && drawn("衣裙") != drawn("衣 裙"), "white space is a space")
  }

  @Test("Where no font has any of a label's characters, it is drawn as without a font")
  func nothingFound() {
    for text in ["☃☂", "naïve", "😀👩‍👩‍👧", "\u{10FFFF}", "שלום"] {
      #expect(drawn(text) == drawn(text, .boxes), "\(text)")
    }
    #expect(drawn("家", .boxes) == drawn("é", .boxes), "without a font every character is a box")
    #expect(drawn("衣", .boxes) != drawn("衣"))
  }

  // MARK: - What stays as it was

  /// Labels above, beside, too long, of every scale.
  private static func asciiGrids(_ font: LabelFont) -> [Image] {
    func image(_ seed: Int, _ width: Int, _ height: Int, _ channels: Int) -> Image {
      let pixels = (0..<width * height * channels).map { UInt8(truncatingIfNeeded: ($0 + seed) * 37) }
      return Image(width: width, height: height, channels: channels, pixels: pixels)
    }
    let long = "a row label far too long to be shown, with gjpqy"
    let garments = (0..<6).map { image($0, 28, 28, 1) }
    return [
      ImageGrid(garments, classNames: ["T-shirt/top", "Trouser", "Bag"], font: font),
      ImageGrid(
        garments, classNames: ["Ankle boot", "pullover, jumper or sweater", "", "x", "~", "j g"], font: font),
      ImageGrid(
        (0..<7).map { image($0, 5, 3, 3) }, columns: 2, group: 4, rowLabels: [long, "y"],
        columnLabels: ["t = 999", "t = 0"], scale: 1, font: font),
      ImageGrid(
        (0..<2).map { image($0, 150, 170, 1) }, columns: 2, rowLabels: ["row\t1"], columnLabels: [long, "c"],
        imageLabels: ["i", long], scale: 1, font: font),
    ].map { $0.rendered() }
  }

  @Test("Grids with ASCII labels are, to the byte, what they were before there were fonts")
  func asciiIsUnchanged() {
    // FNV-1a of every size and sample, from the version before this one.
    let sum = Self.asciiGrids(.system).reduce(14_695_981_039_346_656_037 as UInt64) { sum, image in
      ([UInt8(truncatingIfNeeded: image.width), UInt8(truncatingIfNeeded: image.height)] + image.pixels)
        .reduce(sum) { ($0 ^ UInt64($1)) &* 1_099_511_628_211 }
    }
    #expect(sum == 11_334_134_054_561_572_394)
    #expect(Self.asciiGrids(.boxes) == Self.asciiGrids(font))
  }

  @Test("An ASCII label is drawn alike beside one that is not, on one base line")
  func asciiBesideOthers() {
    let images = (0..<2).map { _ in Image(width: 100, height: 100, channels: 1, shade: 0) }
    func grid(_ labels: [String], _ font: LabelFont) -> ImageGrid {
      ImageGrid(images, columns: 2, imageLabels: labels, font: font)
    }
    /// Rows above an image that have dark ink.
    func rows(_ grid: ImageGrid, _ index: Int) -> ClosedRange<Int> {
      let (picture, place) = (grid.rendered(), grid.origin(ofImage: index))
      let rows = (0..<place.y - 1).filter { row in
        (place.x..<place.x + 100).contains { picture[row: row, column: $0] < 100 }
      }
      return (rows.min() ?? 0)...(rows.max() ?? 0)
    }
    let (plain, mixed) = (grid(["BE", "BE"], font), grid(["BE", "ЖA"], font))
    #expect(rows(mixed, 0).upperBound == rows(mixed, 1).upperBound, "BE and ЖA stand on one line")
    #expect(rows(mixed, 0).count == 14 && rows(plain, 0).count == 14, "seven font pixels of 2")
    let chinese = grid(["BE", "衣"], font)
    #expect(rows(chinese, 1).upperBound > rows(chinese, 0).upperBound, "衣 goes below the line")
    #expect(chinese.height - grid(["BE", "衣"], .boxes).height == 1, "so that the row grows")
    let letters = { (grid: ImageGrid) in
      Self.part(
        of: grid.rendered(), x: grid.origin(ofImage: 0).x, y: rows(grid, 0).lowerBound, width: 100, height: 14)
    }
    #expect(letters(chinese) == letters(plain))
  }

  // MARK: - Layout

  @Test("A label too long for its place is shortened with dots, a character at a time")
  func longLabelsAreShortened() {
    let long = String(repeating: "衣", count: 40)
    #expect(drawn(long + "裙") == drawn(long), "what does not fit is not shown")
    let (six, seven) = (String(repeating: "衣", count: 6), String(repeating: "衣", count: 7))
    #expect(drawn(long) == drawn(seven + "..."), "one step smaller; 96 pixels: seven of 12, dots of 3")
    #expect(drawn(seven + " " + long) == drawn(seven + "..."), "no blank before the dots")
    let accented = "e\u{301}"
    #expect(
      drawn(six + String(repeating: accented, count: 9)) == drawn(six + accented + accented + "..."),
      "a mark stays with its letter")
    func row(_ text: String) -> ImageGrid {
      ImageGrid([Image(width: 96, height: 96, channels: 1, shade: 0)], columns: 1, rowLabels: [text], font: font)
    }
    #expect(
      row(long).rendered() == row(String(repeating: "衣", count: 12) + "...").rendered(),
      "120 font pixels of 2: twelve of 18, dots of 5")
  }

  /// As with ASCII labels: the ink of all labels together is the sum of each alone.
  @Test("Labels do not overlap and never touch an image, even beside images lower than a line of text")
  func labelsDoNotOverlap() {
    let images = (0..<4).map { _ in Image(width: 3, height: 3, channels: 1, shade: 255) }
    func picture(_ labels: [String]) -> (grid: ImageGrid, ink: Int) {
      let grid = ImageGrid(images, columns: 1, rowLabels: labels, scale: 1, font: font)
      return (grid, grid.rendered().pixels.count { $0 < 200 })
    }
    let labels = ["裙é한", "鞋", "|gjpqy衣", "靴e\u{301}"]
    let alone = labels.indices.map { index in picture(labels.indices.map { $0 == index ? labels[$0] : "衣" }).ink }
    let plain = picture(["衣", "衣", "衣", "衣"]).ink
    #expect(plain > 0 && picture(labels).ink == alone.reduce(0, +) - 3 * plain)
    for index in images.indices {
      let (grid, place) = (picture(labels).grid, picture(labels).grid.origin(ofImage: index))
      let cell = Self.part(of: grid.rendered(), x: place.x, y: place.y, width: 3, height: 3)
      #expect(cell == images[index])
    }
  }

  /// Names, classes and captions come from files: anything may stand in them.
  @Test("No text ends the program or makes a picture of its own size", arguments: ["fixture", "system", "boxes"])
  func anyText(choice: String) {
    let font = choice == "fixture" ? font : choice == "system" ? .system : .boxes
    let many = 50_000
    let texts = [
      String(repeating: "衣\u{301}", count: many), "e" + String(repeating: "\u{301}", count: many),
      "\u{301}\u{302}衣", "\u{202E}衣 abc\u{202C}", "שלום עולם", "العربية", "हिन्दी", "ไทย", "😀❤️👩‍👩‍👧🇩🇪1️⃣",
      String(repeating: "\n", count: 5000) + "衣", "衣\0\u{1}\u{7F}\u{85}\u{9F}", "\u{FEFF}\u{200B}\u{2060}\u{AD}",
      "\u{E000}\u{F8FF}\u{10FFFF}\u{FFFE}", "\u{1100}\u{1161}\u{11A8}", "\u{3164}\u{115F}衣", "\u{FDFA}\u{12031}",
      String(repeating: "衣 ", count: 600), " ", "",
    ]
    let image = Image(width: 60, height: 40, channels: 1, shade: 255)
    let grid = ImageGrid(
      texts.map { _ in image }, columns: 1, rowLabels: texts, imageLabels: texts, scale: 1, font: font)
    #expect(grid.width < 60 + 200 && grid.height < texts.count * 100)
    #expect(grid.rendered() == grid.rendered())
    for index in texts.indices {
      let place = grid.origin(ofImage: index)
      #expect(Self.part(of: grid.rendered(), x: place.x, y: place.y, width: 60, height: 40) == image)
    }
  }

  // MARK: - Fonts

  @Test("A file that is no font with outlines is refused by name, in one line")
  func brokenFonts() throws {
    try withTemporaryDirectory { directory in
      func refused(_ name: String, _ bytes: [UInt8]) throws -> DiTError? {
        let path = directory.appending(path: name).path
        try Data(bytes).write(to: URL(filePath: path))
        return #expect(throws: DiTError.self) { try LabelFont(contentsOf: path) }
      }
      let whole = try Fixtures.fonts.bytes("microhei.ttf")
      let bitmaps = """
        STARTFONT 2.1
        FONT -a-b-medium-r-normal--8-80-75-75-c-80-iso10646-1
        SIZE 8 75 75
        FONTBOUNDINGBOX 8 8 0 0
        STARTPROPERTIES 2
        CHARSET_REGISTRY "ISO10646"
        CHARSET_ENCODING "1"
        ENDPROPERTIES
        CHARS 1
        STARTCHAR A
        ENCODING 65
        SWIDTH 500 0
        DWIDTH 8 0
        BBX 8 1 0 0
        BITMAP
        FF
        ENDCHAR
        ENDFONT

        """
      for (name, bytes, words) in [
        ("empty.ttf", [], "FreeType"), ("text.ttf", Array("not a font, but long enough to be one\n".utf8), "FreeType"),
        ("head.ttf", Array(whole.prefix(300)), "FreeType"), ("bitmaps.bdf", Array(bitmaps.utf8), "without outlines"),
      ] {
        let error = try #require(try refused(name, bytes))
        #expect(error.kind == .content && error.file?.hasSuffix("/" + name) == true)
        #expect(error.expected == "a font with outlines" && error.found?.contains(words) == true, "\(error)")
        #expect(!error.description.contains("\n") && error.exitStatus == 65)
      }
    }
    for path in ["/nowhere/font.ttf", "/", "/dev/zero", "a\0b"] {
      let error = #expect(throws: DiTError.self) { try LabelFont(contentsOf: path) }
      #expect(error?.kind == .file && error?.file == path)
    }
  }

  @Test("Any beginning of a font and any flipped byte is refused or draws something")
  func damagedFonts() throws {
    let whole = try Fixtures.fonts.bytes("microhei.ttf")
    let image = Image(width: 60, height: 20, channels: 1, shade: 255)
    try withTemporaryDirectory { directory in
      let path = directory.appending(path: "font.ttf").path
      func use(_ bytes: [UInt8]) throws {
        try Data(bytes).write(to: URL(filePath: path))
        do throws(DiTError) {
          let font = try LabelFont(contentsOf: path)
          let grid = ImageGrid([image], columns: 1, imageLabels: ["AV衣裙 éΩ한"], scale: 1, font: font)
          #expect(grid.width < 100 && grid.height <= 62)
          _ = grid.rendered()
        } catch {
          #expect(error.file == path && !error.description.contains("\n"))
        }
      }
      for count in stride(from: 0, to: whole.count, by: 29) { try use(Array(whole.prefix(count))) }
      for index in stride(from: 0, to: whole.count, by: 7) {
        var damaged = whole
        damaged[index] = index % 2 == 0 ? 0xFF : damaged[index] ^ 0x80
        try use(damaged)
      }
    }
  }

  @Test("Grids are made on several threads at once, with the bytes of one alone")
  func threads() async throws {
    let (image, file) = (Image(width: 60, height: 60, channels: 1, shade: 255), font)
    let grids = await withTaskGroup(of: [Image].self) { group in
      for _ in 0..<8 {
        group.addTask {
          [file, .system].map { font in
            ImageGrid([image], columns: 1, imageLabels: ["衣裙 é"], font: font).rendered()
          }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(grids.count == 8 && grids.allSatisfy { $0 == grids[0] })
  }

  private func drawn(_ text: String, _ font: LabelFont? = nil) -> Image {
    let image = Image(width: 96, height: 96, channels: 1, shade: 255)
    return ImageGrid([image], columns: 1, imageLabels: [text], font: font ?? self.font).rendered()
  }

  private static func part(of image: Image, x: Int, y: Int, width: Int, height: Int) -> Image {
    let pixels = (y..<y + height).flatMap { row in
      (x..<x + width).map { image[row: row, column: $0] }
    }
    return Image(width: width, height: height, channels: 1, pixels: pixels)
  }
}
