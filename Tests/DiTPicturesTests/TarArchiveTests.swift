import DiTEvaluation
import DiTImaging
import DiTPictures
import DiTTensor
import DiTTraining
import Foundation
import TestSupport
import Testing

@Suite("Pictures in tar archives, as Python's tarfile writes them") struct TarArchiveTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  @Test(
    "A picture and its .cls are a sample, whichever comes first; other files are passed over", arguments: [0, 1 << 20])
  func samples(_ cacheBytes: Int) throws {
    let set = try openedPictures(archiveFixture("samples-000.tar"))
    #expect(try archiveOrder(set, cacheBytes: cacheBytes) == [0, 1, 2, 3, 4] && set.labels == [3, 0, 3, 1, 7])
    #expect(set.classes == DataClasses(source: set.path, names: nil, statedCount: nil, count: 8))
    #expect(set.notes.count == 1 && set.notes[0].hasSuffix("1 file of other endings passed over: 000001.json"))
  }

  @Test("Archives are joined in their order: by NAME{FIRST..LAST}.tar, or of a folder")
  func shards() throws {
    let set = try openedPictures(archiveFixture("samples-{000..001}.tar"))
    #expect(try archiveOrder(set) == [0, 1, 2, 3, 4, 5] && set.labels == [3, 0, 3, 1, 7, 2])
    for (name, copy) in [("samples-000.tar", "b.tar"), ("samples-001.tar", "a.tar")] {
      try scratch.write([UInt8](Data(contentsOf: URL(filePath: archiveFixture(name)))), to: "shards/\(copy)")
    }
    #expect(try archiveOrder(openedPictures(scratch("shards"))) == [5, 0, 1, 2, 3, 4])
    let problem = errorText { _ = try PictureSets.open(archiveFixture("samples-{000..002}.tar")) }
    #expect(problem.contains("samples-002.tar") && problem.contains("no such file"))
  }

  @Test(
    "Without labels, folders are classes; long names and others' letters come through in every format",
    arguments: ["folders-pax.tar", "folders-gnu.tar", "folders-ustar.tar"])
  func folders(_ name: String) throws {
    let set = try openedPictures(archiveFixture(name))
    #expect(set.classes == DataClasses(source: set.path, names: ["cat", "dog"], statedCount: 2, count: 2))
    #expect(try archiveOrder(set) == (name == "folders-ustar.tar" ? [0, 2, 1] : [0, 1, 2]))
    #expect(set.labels == (name == "folders-ustar.tar" ? [1, 1, 0] : [1, 0, 1]) && set.notes.isEmpty)
  }

  /// A tar header for so many bytes, with a right checksum.
  private func member(
    _ name: String, _ data: [UInt8], kind: UInt8 = 0x30, stated: Int? = nil, link: String = ""
  ) -> [UInt8] {
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, at offset: Int) { for (i, byte) in text.utf8.enumerated() { header[offset + i] = byte } }
    put(name, at: 0)
    put(link, at: 157)
    put(String(format: "%011o", stated ?? data.count), at: 124)
    put("        ", at: 148)
    header[156] = kind
    put("ustar\0", at: 257)
    put(String(format: "%06o\0 ", header.reduce(0) { $0 + Int($1) }), at: 148)
    return header + data + [UInt8](repeating: 0, count: (512 - data.count % 512) % 512)
  }

  @Test("Hard links are the files before them; other links, and a missing end, are noted; outer folders are no classes")
  func links() throws {
    let archive = [UInt8](try Data(contentsOf: URL(filePath: archiveFixture("samples-000.tar"))))
    let pictures = [Array(archive[1536..<1617]), Array(archive[2560..<2636])]
    let end = [UInt8](repeating: 0, count: 1024)
    func opened(_ bytes: [UInt8]) throws -> any PictureSet {
      try scratch.write(bytes, to: "x.tar")
      return try openedPictures(scratch("x.tar"))
    }
    let (cat, dog) = (member("data/set/cat/1.png", pictures[0]), member("data/set/dog/2.png", pictures[1]))
    let linked = try opened(
      cat + dog + member("data/set/dog/3.png", [], kind: 0x31, link: "data/set/cat/1.png")
        + member("data/set/dog/4.png", [], kind: 0x31, link: "none.png")
        + member("data/set/dog/5.png", [], kind: 0x32, link: "2.png") + end)
    #expect(linked.count == 3 && linked.labels == [0, 1, 1] && linked.classes.names == ["cat", "dog"])
    #expect(linked.notes.count == 1 && linked.notes[0].contains("2 links to other than files before them passed over"))
    #expect(try archiveOrder(linked) == [0, 1, 0])
    let unended = try opened(cat + dog)
    #expect(unended.count == 2 && unended.notes.count == 1 && unended.notes[0].contains("no mark of its end"))
    #expect(try opened(cat + member("data/3.png", pictures[1]) + end).labels == nil, "one lies in no folder")
  }

  @Test("What is damaged, cut off or incomplete is said with the archive and the member")
  func refused() throws {
    let picture = [UInt8](try Data(contentsOf: URL(filePath: archiveFixture("samples-000.tar"))))[1536..<2048]
    func problem(_ bytes: [UInt8]) throws -> String {
      try scratch.write(bytes, to: "x.tar")
      return errorText { _ = try PictureSets.open(scratch("x.tar")) }.replacingOccurrences(of: scratch.path, with: "")
    }
    let end = [UInt8](repeating: 0, count: 1024)
    #expect(try problem(end).contains("expected PNG, JPEG or WebP files in it, found none"))
    #expect(try problem([UInt8]("no tar".utf8)).contains("header: expected a tar header, found 6 bytes"))
    #expect(try problem([UInt8](repeating: 0x41, count: 1024)).contains("found none, or a damaged one, at byte 0"))
    var damaged = member("a.png", Array(picture))
    damaged[3] ^= 1
    #expect(try problem(damaged + end).contains("at byte 0"))
    #expect(
      try problem(member("a.png", [], stated: 4000)).contains("end: expected 4000 bytes from byte 512 on, found 0"))
    #expect(try problem(member("a.png", [], stated: 0o77_777_777_777)).contains("end: expected"))
    #expect(try problem(member("a.png", []) + [0]).contains("end: expected whole blocks of 512 bytes, found 1 more"))
    #expect(try problem(member("a.png", [], kind: 0x53) + end).contains("found a sparse one at byte 0"))
    #expect(try problem(member("x", [UInt8]("30 path=a".utf8), kind: 0x78) + end).contains("pax header"))
    let negative = member("x", [UInt8]("11 size=-1\n".utf8), kind: 0x78) + member("a.png", Array(picture))
    #expect(try problem(negative + end).contains("end: expected -1 bytes"))
    let (a, b) = (member("a.png", Array(picture)), member("b.png", Array(picture)))
    let largest = member("a.cls", [UInt8]("9223372036854775807".utf8))
    #expect(try problem(a + largest + end).contains("a.cls: expected a class, a whole number from 0 to 999999"))
    #expect(
      try problem(a + member("a.cls", [0x33]) + b + end).contains("b.png: expected a .cls beside it, as a.png has one"))
    for label in ["-1", "+1", "1 2", "3\n7\n", "", "1000000", "0x1"] {
      #expect(
        try problem(a + member("a.cls", [UInt8](label.utf8)) + end).contains("a.cls: expected a class"), "\(label)")
    }
    let sparse = member("x", [UInt8]("22 GNU.sparse.major=1\n".utf8), kind: 0x78)
    #expect(try problem(sparse + a + end).contains("found a sparse one at byte 0"))
    #expect(try problem(a + member("a.jpg", [1]) + end).contains("a.jpg: expected one picture of this key"))
    let dotted = member("t-0.5.png", Array(picture)) + member("t-0.5.cls", [0x33])
    #expect(try problem(dotted + end).contains("t-0.5.cls: expected KEY.cls with one dot"))
    try scratch.write(a + member("a.coarse.cls", [0x33]) + member("a.cls", [0x34]) + end, to: "fields.tar")
    let fields = try openedPictures(scratch("fields.tar"))
    #expect(fields.labels == [4] && fields.notes.contains { $0.contains("passed over: a.coarse.cls") })
    // A picture that is damaged inside is found when it is decoded, by name.
    try scratch.write(a + member("b.png", [1, 2, 3]) + end, to: "broken.tar")
    let set = try openedPictures(scratch("broken.tar"))
    let broken = errorText { _ = try set.dataset(channels: 1, height: 4, width: 6, options: PictureOptions()) }
    #expect(broken.contains("broken.tar/b.png"))
    let kept = try set.dataset(
      channels: 1, height: 4, width: 6, options: PictureOptions(brokenImages: .skip))
    #expect(kept.data.count == 1 && kept.notes[0].contains("1 broken picture skipped: b.png"))
  }
}
