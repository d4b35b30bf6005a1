import DiTImaging
import Testing

@Suite("Grids of images with labels") struct ImageGridTests {
  /// Where labels may stand: nowhere, and each kind alone and all together, also too long for their place.
  static let labelSets: [(row: [String], column: [String], image: [String])] = [
    ([], [], []),
    (["one", "two", "three"], [], []),
    ([], ["left", "a middle one", "right"], []),
    ([], [], (0..<7).map { "image number \($0)" }),
    (
      ["g", "a row label far too long to be shown", ""], ["", "t=3", "j"],
      (0..<7).map { String(repeating: "W", count: $0) }
    ),
  ]

  @Test(
    "Every pixel stands where origin(ofImage:) says, with any labels",
    arguments: labelSets.indices, [(8, 8, 1), (5, 3, 3), (3, 41, 3), (97, 33, 1)])
  func everyPixelIsAtTheDocumentedPlace(labels: Int, size: (width: Int, height: Int, channels: Int)) {
    let images = Self.noise(7, size)
    let labels = Self.labelSets[labels]
    let grid = ImageGrid(
      images, columns: 3, rowLabels: labels.row, columnLabels: labels.column, imageLabels: labels.image)
    let wrong = Self.misplacedSamples(grid)
    #expect(wrong == 0, "\(wrong) samples are not where origin(ofImage:) says")
  }

  @Test("A grid uses the scale it is given", arguments: [1, 2, 5])
  func theScaleCanBeChosen(scale: Int) {
    let grid = ImageGrid(Self.noise(5, (4, 3, 1)), columns: 2, rowLabels: ["a", "b", "c"], scale: scale)
    #expect(grid.scale == scale)
    #expect(Self.misplacedSamples(grid) == 0)
  }

  @Test("Small images are enlarged by a whole factor to at least 96 pixels")
  func smallImagesAreEnlargedTo96() {
    let grid = ImageGrid(Self.noise(1, (8, 8, 1)), columns: 1)
    let (x, y) = grid.origin(ofImage: 0)
    #expect(grid.scale == 12 && grid.width == 96 + 2 * x && grid.height == 96 + 2 * y)
  }

  @Test("A grid with class names has one row per class")
  func oneRowPerClass() {
    let grid = ImageGrid(Self.noise(30, (8, 8, 1)), classNames: (0..<10).map(String.init))
    let places = (0..<30).map { grid.origin(ofImage: $0) }
    let pitch = 96 + 8
    let expected = (0..<30).map { (places[0].x + $0 % 3 * pitch, places[0].y + $0 / 3 * pitch) }
    #expect(zip(places, expected).allSatisfy { $0 == $1 })
    #expect(places[0].x > places[0].y, "the labels stand to the left")
  }

  @Test("One image per class is laid out compactly, with labels above")
  func oneImagePerClassIsCompact() {
    let grid = ImageGrid(Self.noise(10, (8, 8, 1)), classNames: (0..<10).map(String.init))
    let places = (0..<10).map { grid.origin(ofImage: $0) }
    #expect(Set(places.map(\.x)).count == 5 && Set(places.map(\.y)).count == 2)
    #expect(places[0].y > places[0].x, "the labels stand above")
  }

  @Test("A class longer than a row wraps, and the next class begins a new row")
  func longClassesWrapAndStartNewRows() {
    let grid = ImageGrid(Self.noise(14, (3, 3, 1)), classNames: ["a", "b"], maximumColumns: 3)
    let places = (0..<14).map { grid.origin(ofImage: $0) }
    let rows = Set(places.map(\.y)).sorted()
    #expect(rows.count == 6)
    let lefts = places.indices.filter { places[$0].x == places[0].x }
    #expect(lefts == [0, 3, 6, 7, 10, 13], "the images that begin a row")
    #expect(rows[3] - rows[2] > rows[2] - rows[1], "classes are set apart")
    #expect(Self.misplacedSamples(grid) == 0)
  }

  @Test("A single class fills a compact grid")
  func oneClassFillsACompactGrid() {
    let grid = ImageGrid(Self.noise(12, (3, 3, 1)), classNames: ["cat"])
    let places = (0..<12).map { grid.origin(ofImage: $0) }
    #expect(Set(places.map(\.x)).count == 4 && Set(places.map(\.y)).count == 3)
  }

  @Test(
    "The number of columns of a compact grid follows the number of images",
    arguments: [
      (1, 1), (2, 2), (3, 3), (4, 2), (5, 5), (7, 4), (9, 3), (10, 5), (11, 4), (12, 4), (13, 7), (100, 10),
    ])
  func compactColumns(count: Int, expected: Int) {
    #expect(ImageGrid.compactColumns(for: count) == expected)
  }

  @Test("Row labels are drawn left of their row and change with their text")
  func labelsDrawAndFollowTheirText() {
    let images = Self.noise(4, (96, 96, 3))
    let plain = ImageGrid(images, columns: 2, rowLabels: ["", "abc"]).rendered()
    let first = ImageGrid(images, columns: 2, rowLabels: ["abc", "abc"]).rendered()
    let second = ImageGrid(images, columns: 2, rowLabels: ["abd", "abc"]).rendered()
    let drawn = first.differences(from: plain)
    let changed = second.differences(from: first)
    let places = ImageGrid(images, columns: 2, rowLabels: ["abc", "abc"]).origin(ofImage: 0)
    #expect(!drawn.isEmpty && !changed.isEmpty)
    #expect(
      (drawn + changed).allSatisfy { $0.column < places.x && (places.y..<places.y + 96).contains($0.row) },
      "a row label stands to the left of its row")
  }

  @Test("Image and column labels are centered above their image")
  func imageAndColumnLabelsStandAboveTheirImage() {
    let images = Self.noise(3, (96, 96, 1))
    let blank = ["", "", ""]
    for kind in ["image", "column"] {
      func grid(_ labels: [String]) -> ImageGrid {
        kind == "image"
          ? ImageGrid(images, columns: 3, imageLabels: labels) : ImageGrid(images, columns: 3, columnLabels: labels)
      }
      let place = grid(blank).origin(ofImage: 1)
      let drawn = grid(["", "cat", ""]).rendered().differences(from: grid(blank).rendered())
      let left = drawn.map(\.column).min() ?? -1
      let right = drawn.map(\.column).max() ?? -1
      #expect(left >= place.x && right < place.x + 96, "the \(kind) label spans \(left)…\(right)")
      #expect(abs((left - place.x) - (place.x + 95 - right)) <= 1, "the \(kind) label is centered")
      #expect(drawn.allSatisfy { $0.row < place.y - 1 }, "the \(kind) label ends above the frame")
    }
  }

  /// Ink of all labels together equals the sum of each alone: no two overlap, even beside images lower than a line of text.
  @Test("Labels do not overlap, even beside images lower than a line of text")
  func labelsDoNotOverlap() {
    let images = (0..<4).map { _ in Image(width: 3, height: 3, channels: 1, shade: 255) }
    func ink(_ labels: [String]) -> Int {
      ImageGrid(images, columns: 1, rowLabels: labels, scale: 1).rendered().pixels.count { $0 < 100 }
    }
    let labels = ["|gjpqy", "|gjpqy", "|gjpqy", "|gjpqy"]
    let alone = labels.indices.map { index in ink(labels.indices.map { $0 == index ? labels[$0] : "" }) }
    #expect(alone[0] > 0 && ink(labels) == alone.reduce(0, +))
  }

  @Test("Labels too long for their place are shortened with dots")
  func longLabelsAreShortenedWithDots() {
    let images = Self.noise(1, (96, 96, 1))
    func row(_ text: String) -> Image { ImageGrid(images, columns: 1, rowLabels: [text]).rendered() }
    func above(_ text: String) -> Image { ImageGrid(images, columns: 1, imageLabels: [text]).rendered() }
    let long = String(repeating: "n", count: 40)
    #expect(row(long + "xyz") == row(long), "what does not fit is not shown")
    #expect(row(long).width < 96 + 300)
    #expect(
      row(long) == row(String(repeating: "n", count: 19) + "..."),
      "six font pixels a letter, 120 in all, the dots need five")
    #expect(
      above(long) == above(String(repeating: "n", count: 15) + "..."), "one step smaller, then shortened to 96 pixels")
    let short = String(repeating: "n", count: 14)
    #expect(above(short + " " + long) == above(short + "..."), "no blank before the dots")
  }

  @Test("Every printable ASCII character has its own glyph; without a font others are drawn as a box")
  func printableCharactersHaveGlyphsOfTheirOwn() {
    let image = Image(width: 96, height: 96, channels: 1, shade: 255)
    func drawn(_ text: String) -> [UInt8] {
      ImageGrid([image], columns: 1, imageLabels: [text], font: .boxes).rendered().pixels
    }
    let texts = (0x21...0x7E).map { String(Unicode.Scalar(UInt8($0))) } + ["é"]
    #expect(Set(texts.map(drawn)).count == texts.count)
    #expect(
      drawn("é") == drawn("家") && drawn("e\u{301}") == drawn("é") && drawn("\u{7}") == drawn("é"), "unknown: a box")
    #expect(drawn("a\tb") == drawn("a b") && drawn("a\u{A0}b") == drawn("a b"), "white space: a space")
    #expect(drawn("é") != drawn("") && drawn(" ") == drawn(""))
  }

  @Test("Rendering the same grid twice gives the same bytes")
  func renderingIsRepeatable() throws {
    func data() throws -> [UInt8] {
      try ImageGrid(Self.noise(6, (9, 7, 3)), classNames: ["a", "b", "c"]).rendered().pngData(text: [("seed", "1")])
    }
    #expect(try data() == data())
  }

  private static func noise(_ count: Int, _ size: (width: Int, height: Int, channels: Int)) -> [Image] {
    (0..<count).map {
      Image.random(width: size.width, height: size.height, channels: size.channels, seed: UInt64($0))
    }
  }

  /// Compares every rendered sample inside the cells with the image it should show.
  private static func misplacedSamples(_ grid: ImageGrid) -> Int {
    let canvas = grid.rendered()
    guard canvas.width == grid.width, canvas.height == grid.height else { return .max }
    var wrong = 0
    for (index, image) in grid.images.enumerated() {
      let (x, y) = grid.origin(ofImage: index)
      for row in 0..<image.height * grid.scale {
        for column in 0..<image.width * grid.scale {
          for channel in 0..<image.channels {
            let source = image[row: row / grid.scale, column: column / grid.scale, channel: channel]
            wrong += canvas[row: y + row, column: x + column, channel: channel] == source ? 0 : 1
          }
        }
      }
    }
    return wrong
  }
}
