import DiTImaging
import DiTTensor
import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Files that lie, lack something or are none at all: each an error of its own, one line, and no memory for claims.
@Suite("Image files that lie about their content or are none") struct HostileImageTests {
  private let gray = try? Image.random(width: 7, height: 5, channels: 1, seed: 1).pngData()

  @Test("The hand-written JPEGs of these tests are valid")
  func tinyJPEGsAreJPEGs() throws {
    #expect(try Image(encoded: TinyJPEG().bytes) == Image(width: 8, height: 8, channels: 3, shade: 128))
    let scans = TinyJPEG(width: 20, height: 9, scans: [[0], [1, 2]]).bytes
    #expect(try Image(encoded: scans) == Image(width: 20, height: 9, channels: 3, shade: 128))
    let tall = TinyJPEG(width: 1, height: 60_000, components: 1, scans: [[0]]).bytes
    #expect(try Image(encoded: tall).height == 60_000)
  }

  @Test("Headers that claim more pixels than allowed or than the file can hold are refused")
  func headersThatClaimTooMuchAreRefused() throws {
    let huge = TinyJPEG(width: 65_500, height: 65_500, blocks: 1).bytes
    expect(huge, throws: .tooManyPixels(width: 65_500, height: 65_500, maximum: 3 << 26))
    expect(
      try Fixtures.imaging.bytes("broken_huge.png"),
      throws: .tooManyPixels(width: 60_000, height: 50_000, maximum: 3 << 26))
    expect(
      try Fixtures.imaging.bytes("broken_huge_2e31.png"),
      throws: .sideTooLong(width: 2_147_483_647, height: 2_147_483_647, maximum: 65_535))
    expect(TinyJPEG(width: 65_501, height: 1, blocks: 1).bytes, words: "65500")  // the most that libjpeg takes
    // An allowed size, but these few bytes cannot hold it.
    expect(TinyJPEG(width: 8000, height: 8000, blocks: 1).bytes, throws: .truncated(.jpeg))
    expect(TinyJPEG(width: 6000, height: 6000, scans: [[0], [1], [2]], blocks: 1).bytes, throws: .truncated(.jpeg))
    expect(try Fixtures.imaging.bytes("broken_claims_more.png"), throws: .truncated(.png))
    let unlimited = ImageLimits(pixels: .max, side: .max, fileBytes: .max, memoryBytes: .max, scans: .max)
    expect(huge, throws: .truncated(.jpeg), limits: unlimited)
  }

  @Test("Limits of pixels, side and file size admit the limit and refuse one more")
  func limitsAreExact() throws {
    let png = try #require(gray)
    let jpeg = TinyJPEG(width: 7, height: 5).bytes
    let tall = TinyJPEG(width: 2, height: 9).bytes
    for data in [png, jpeg] {
      #expect(try Image(encoded: data, limits: ImageLimits(pixels: 35, side: 7, fileBytes: data.count)).width == 7)
      expect(
        data, throws: .tooManyPixels(width: 7, height: 5, maximum: 34), limits: ImageLimits(pixels: 34))
      expect(data, throws: .sideTooLong(width: 7, height: 5, maximum: 6), limits: ImageLimits(side: 6))
      #expect(try Image(encoded: tall, limits: ImageLimits(side: 9)).height == 9)
      expect(tall, throws: .sideTooLong(width: 2, height: 9, maximum: 8), limits: ImageLimits(side: 8))
      expect(
        data, throws: .fileTooLarge(bytes: data.count, maximum: data.count - 1),
        limits: ImageLimits(fileBytes: data.count - 1))
    }
  }

  /// A small file that honestly holds much is refused by the memory it takes: a progressive one above all.
  @Test("An image that takes more memory than allowed is refused, however small its file")
  func memoryIsLimited() throws {
    let bomb = try Image(width: 2000, height: 3000, channels: 3, shade: 0).pngData()
    #expect(bomb.count < 40_000)
    expect(bomb, words: "bytes of memory", limits: ImageLimits(memoryBytes: 18_000_000))
    #expect(try Image(encoded: bomb, limits: ImageLimits(memoryBytes: 18_100_000)).width == 2000)
    let sequential = TinyJPEG(width: 800, height: 600).bytes
    let scans = TinyJPEG(width: 800, height: 600, scans: [[0], [1], [2]]).bytes
    let limits = ImageLimits(memoryBytes: 3_000_000)
    #expect(try Image(encoded: sequential, limits: limits).width == 800)
    expect(scans, throws: .tooMuchMemory(bytes: 4_320_000, maximum: 3_000_000), limits: limits)
    #expect(try Image(encoded: scans, limits: ImageLimits(memoryBytes: 4_320_000)).width == 800)
  }

  @Test("A JPEG with more scans than allowed is refused")
  func scansAreLimited() throws {
    let bomb = TinyJPEG(scans: [[0], [1]] + [[Int]](repeating: [2], count: 99)).bytes
    expect(bomb, throws: .tooManyScans(maximum: 100))
    #expect(try Image(encoded: bomb, limits: ImageLimits(scans: 101)).width == 8)
    let progressive = try Fixtures.pictures.bytes("progressive.jpg")
    expect(progressive, throws: .tooManyScans(maximum: 9), limits: ImageLimits(scans: 9))
    #expect(try Image(encoded: progressive, limits: ImageLimits(scans: 10)).width == 29)
  }

  @Test("JPEGs with empty sizes, other precisions, frames or component counts are refused")
  func oddHeadersAreRefused() {
    expect(TinyJPEG(height: 0, blocks: 1).bytes, words: "Empty JPEG image")
    expect(TinyJPEG(width: 0, blocks: 1).bytes, words: "Empty JPEG image")
    expect(TinyJPEG(precision: 12).bytes, words: "precision 12")
    expect(TinyJPEG(frame: 0xC3).bytes, words: "0xc3")
    expect(TinyJPEG(components: 2, scans: [[0, 1]]).bytes, words: "2 components")
    expect(TinyJPEG(components: 5, scans: [[0, 1]]).bytes, words: "5 components")
    expect(TinyJPEG(scans: [[0], [1]]).bytes, throws: .truncated(.jpeg))  // nothing of the third component
    expect(TinyJPEG(scans: [[0, 1], [0]]).bytes, throws: .truncated(.jpeg))
    expect(TinyJPEG(scans: []).bytes, words: "damaged")
  }

  /// Every beginning is refused, and a flipped bit at most changes pixels: JPEG has no checksums.
  @Test(
    "Every prefix of a JPEG is refused, and a flipped bit gives an image of the header's size or an error",
    arguments: ["grey", "ycc420", "progressive", "cmyk", "restarts", "orientation6"])
  func damagedJPEGsAreHarmless(name: String) throws {
    expectDamageIsHarmless(try Fixtures.pictures.bytes(name + ".jpg"))
  }

  @Test("Damage that libjpeg would repair with a warning is refused")
  func damageIsNotGuessedAt() throws {
    var data = try Fixtures.pictures.bytes("restarts.jpg")
    let restart = try #require(data.indices.dropLast().first { data[$0] == 0xFF && data[$0 + 1] == 0xD0 })
    data[restart + 1] = 0xD3  // libjpeg would warn and go on
    expect(data, words: "damaged")
    let gray = try Fixtures.pictures.bytes("grey.jpg")
    expect(gray.dropLast(40) + [0xFF, 0xD9], words: "premature end")
    expect(gray.dropLast(2) + [0, 0, 0, 0xFF, 0xD9], words: "extraneous")
    let odd = gray[..<20] + TinyJPEG.segment(0xFE, [1, 2, 3]) + gray[20...]  // a comment is no damage
    #expect(try Image(encoded: Array(odd)) == Image(encoded: gray))
  }

  @Test(
    "A file of another format is refused by that format's name",
    arguments: [
      ("GIF89a......", "a GIF file"), ("RIFF\u{1}\u{2}\u{3}\0WAVEfmt ", "bytes of another kind"),
      ("BM......", "a BMP file"),
      ("II*\0....", "a TIFF file"), ("\0\0\0 ftypavif", "an AVIF file"), ("%PDF-1.7", "a PDF file"),
      ("Not a picture, whatever its name says.\n", "a text file"), ("", "an empty file"),
      ("\u{1}\u{2}\u{3}\u{4}", "bytes of another kind"),
    ])
  func otherFilesAreNamed(content: String, kind: String) throws {
    try withTemporaryDirectory { directory in
      let path = directory.appending(path: "picture.png").path
      try Data(content.utf8).write(to: URL(filePath: path))
      #expect(throws: DiTError(image: path, .unrecognized(kind))) { try Image(contentsOf: path) }
      #expect(throws: DiTError(image: path, .unrecognized(kind))) { try ImageHeader(ofFile: path) }
    }
  }

  /// The bytes say what a file is, not its name.
  @Test("A file's bytes decide its format, not its name")
  func namesDoNotMatter() throws {
    try withTemporaryDirectory { directory in
      let path = directory.appending(path: "photograph.png").path
      try FileManager.default.copyItem(atPath: Fixtures.pictures.path("grey.jpg"), toPath: path)
      #expect(try Image(contentsOf: path) == Fixtures.pictures.pnm("grey"))
    }
  }

  @Test("Pipes, devices, directories, missing and huge files are refused without waiting", .timeLimit(.minutes(20)))
  func pathsThatAreNoFilesAreRefusedAtOnce() throws {
    try withTemporaryDirectory { directory in
      let pipe = directory.appending(path: "pipe.jpg").path
      #expect(unsafe mkfifo(pipe, 0o600) == 0)
      let huge = directory.appending(path: "huge.jpg").path  // a terabyte of nothing
      #expect(FileManager.default.createFile(atPath: huge, contents: nil))
      #expect(unsafe truncate(huge, 1 << 40) == 0)
      let wanted = [
        (pipe, "pipe"), ("/dev/zero", "device"), (directory.path, "directory"),
        (directory.path + "/none.jpg", "No such file"),
        (huge, "1099511627776 bytes, more than the limit of 1073741824"),
      ]
      for (path, words) in wanted {
        for read in [{ _ = try Image(contentsOf: path) }, { _ = try ImageHeader(ofFile: path) }] as [() throws -> Void]
        {
          let error = #expect(throws: DiTError.self) { try read() }
          let text = error.map(String.init(describing:)) ?? ""
          #expect(text.hasPrefix(path + ": ") && text.contains(words), "\(text)")
        }
      }
    }
  }

  /// What stands before the size may be longer than the first look at a file.
  @Test("The size is found behind segments longer than the first read of the file")
  func headersAreFoundBehindLongSegments() throws {
    try withTemporaryDirectory { directory in
      let path = directory.appending(path: "long.jpg").path
      let comment = TinyJPEG.segment(0xFE, [UInt8](repeating: 7, count: 60_000))
      for count in [0, 1, 2, 20] {
        let data = TinyJPEG(width: 40, height: 30, segments: (0..<count).flatMap { _ in comment }).bytes
        try Data(data).write(to: URL(filePath: path))
        #expect(try ImageHeader(ofFile: path).width == 40)
        try Data(data.prefix(count * 60_000 + 30)).write(to: URL(filePath: path))
        #expect(throws: DiTError(image: path, .truncated(.jpeg))) { try ImageHeader(ofFile: path) }
      }
      let png = try ImageHeader(ofFile: Fixtures.imaging.path("rgb_alpha16_interlaced.png"))
      #expect(png.format == .png && png.width == 9 && png.height == 5 && png.channels == 4)
    }
  }

  private func expect(
    _ data: [UInt8], throws reason: ImagingProblem, limits: ImageLimits = ImageLimits(),
    location: SourceLocation = #_sourceLocation
  ) {
    #expect(throws: DiTError(image: nil, reason), sourceLocation: location) { try Image(encoded: data, limits: limits) }
  }

  private func expect(
    _ data: some Sequence<UInt8>, words: String, limits: ImageLimits = ImageLimits(),
    location: SourceLocation = #_sourceLocation
  ) {
    let error = #expect(throws: DiTError.self, sourceLocation: location) {
      try Image(encoded: Array(data), limits: limits)
    }
    let text = error.map(String.init(describing:)) ?? ""
    #expect(text.contains(words) && !text.contains("\n"), "\(text)", sourceLocation: location)
  }
}
