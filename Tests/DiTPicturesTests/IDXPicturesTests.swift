import DiTEvaluation
import DiTImaging
import DiTPictures
import DiTTensor
import DiTTraining
import Foundation
import TestSupport
import Testing

@Suite("Pictures of MNIST's format") struct IDXPicturesTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  @Test("Files packed or not, with their labels; a folder's are those of training, or of the test")
  func files() throws {
    let set = try openedPictures(archiveFixture("idx/train-images-idx3-ubyte"))
    #expect(try archiveOrder(set) == [0, 1, 2, 3, 4] && archiveOrder(set, cacheBytes: 0) == [0, 1, 2, 3, 4])
    #expect(set.labels == [3, 0, 3, 1, 7] && set.shape == [1, 4, 6] && set.notes.isEmpty)
    #expect(set.classes == DataClasses(source: set.path, names: nil, statedCount: nil, count: 8))
    #expect(try archiveOrder(openedPictures(archiveFixture("idx"))) == [0, 1, 2, 3, 4])
    let test = try #require(try PictureSets.open(archiveFixture("idx"), part: .test))
    #expect(test.isPart && test.pictures.labels == [1, 0])
    #expect(try archiveOrder(test.pictures) == [8, 9])
    let file = try #require(try PictureSets.open(archiveFixture("idx/t10k-images-idx3-ubyte.gz"), part: .test))
    #expect(!file.isPart && file.pictures.count == 2)
  }

  @Test("Pictures come in gray or colors, and at other sizes as those of a folder do")
  func sizes() throws {
    let set = try openedPictures(archiveFixture("idx"))
    let colors = try set.dataset(channels: 3, height: 4, width: 6, options: PictureOptions()).data
    #expect(try colors.sample(2) == floats(archivePixels(2) + archivePixels(2) + archivePixels(2)))
    for cacheBytes in [0, 1 << 20] {
      let small = try set.dataset(
        channels: 1, height: 2, width: 3, options: PictureOptions(cacheBytes: cacheBytes)
      ).data
      let expected = Image(width: 6, height: 4, channels: 1, pixels: archivePixels(3)).fitted(width: 3, height: 2)
      #expect(try small.sample(3) == floats(expected.pixels) && small.isStreamed == (cacheBytes == 0))
    }
    let whole = try set.dataset(channels: 1, height: 4, width: 6, options: PictureOptions()).data
    let streamed = try set.dataset(channels: 1, height: 4, width: 6, options: PictureOptions(cacheBytes: 0)).data
    #expect(whole.digest == streamed.digest)
  }

  @Test("EMNIST's pictures are turned upright, and its classes have their letters' names")
  func emnist() throws {
    let set = try openedPictures(archiveFixture("emnist"))
    #expect(set.labels == [1, 2] && set.classes.names == ["0", "A", "B"])
    #expect(set.notes.count == 2 && set.notes[0].contains("upright"))
    #expect(set.notes[1].hasSuffix(": no pictures of class 0"), "EMNIST's letters begin at 1")
    let data = try set.dataset(channels: 1, height: 4, width: 4, options: PictureOptions()).data
    #expect(try data.sample(1) == floats(archivePixels(1, width: 4)))
  }

  @Test("What is damaged, cut off or does not fit together is said with the file")
  func refused() throws {
    func file(_ kind: UInt8, _ extents: [UInt32], _ data: [UInt8]) -> [UInt8] {
      [0, 0, kind, UInt8(extents.count)]
        + extents.flatMap { e in (0..<4).map { UInt8(truncatingIfNeeded: e >> (24 - 8 * $0)) } }
        + data
    }
    func problem(_ bytes: [UInt8], labels: [UInt8]? = nil) throws -> String {
      try scratch.write(bytes, to: "images-idx3")
      if let labels { try scratch.write(labels, to: "labels-idx1") }
      return errorText { _ = try PictureSets.open(scratch("images-idx3")) }
    }
    let good = file(8, [2, 1, 2], [1, 2, 3, 4])
    #expect(try problem(Array(good.dropLast())).contains("elements: expected 4, as its extents [2, 1, 2] say, found 3"))
    #expect(try problem(good + [0]).contains("elements: expected 4, as its extents [2, 1, 2] say, found more"))
    #expect(try problem(file(8, [2, 0, 2], [])).contains("extents: expected 3, not 0"))
    #expect(try problem(file(8, [.max, .max, .max], [1])).contains("extents"))
    #expect(
      try problem(good, labels: file(8, [3], [0, 1, 2])).contains("labels: expected one for each of the 2 pictures"))
    #expect(try problem(good, labels: file(0x0C, [2], [0, 1])).contains("found IDX of 32-bit integers"))
    #expect(try problem(good, labels: []).contains("labels-idx1"))
    var packed = [UInt8](try Data(contentsOf: URL(filePath: archiveFixture("idx/t10k-images-idx3-ubyte.gz"))))
    try scratch.write(Array(packed.dropLast(9)), to: "cut/test-images-idx3.gz")
    #expect(
      errorText { _ = try PictureSets.open(scratch("cut/test-images-idx3.gz")) }.contains(
        "gzip data: expected whole data"))
    packed[packed.count - 6] ^= 1  // the CRC-32
    try scratch.write(packed, to: "cut/test-images-idx3.gz")
    #expect(errorText { _ = try PictureSets.open(scratch("cut/test-images-idx3.gz")) }.contains("damage"))
    try scratch.write(good, to: "two/a-train-images-idx3")
    try scratch.write(good, to: "two/b-train-images-idx3")
    #expect(errorText { _ = try PictureSets.open(scratch("two")) }.contains("holds several sets"))
    try scratch.write(good, to: "bare/train-images-idx3")
    #expect(try openedPictures(scratch("bare")).labels == nil)
    #expect(
      try openedPictures(scratch("bare")).notes[0].hasSuffix("no labels beside it, a file such as train-labels-idx1"))
    try scratch.write(file(8, [2], [1, 2]), to: "labels/train-images-idx3")
    #expect(
      errorText { _ = try PictureSets.open(scratch("labels")) }.contains(
        "expected pictures, of 3 extents; found extents [2]"))
    #expect(
      errorText { _ = try PictureSets.open(scratch("labels/train-images-idx3")) }.contains("found extents [2]"),
      "the file by its own name")
    try scratch.write(file(0x0D, [1, 1, 1], [0, 0, 0, 0]), to: "floats")
    #expect(errorText { _ = try PictureSets.open(scratch("floats")) }.contains("found IDX of 32-bit floats"))
    try scratch.write([UInt8]("999999999999 65\n".utf8), to: "far/emnist-x-mapping.txt")
    try scratch.write(file(8, [2, 1, 1], [1, 2]), to: "far/emnist-x-train-images-idx3-ubyte")
    try scratch.write(file(8, [2], [1, 2]), to: "far/emnist-x-train-labels-idx1-ubyte")
    #expect(try openedPictures(scratch("far")).classes.names == nil)
    try scratch.write([1, 2, 3, 4, 5], to: "other")
    #expect(try PictureSets.open(scratch("other")) == nil && PictureSets.open(scratch("none")) == nil)
  }
}
