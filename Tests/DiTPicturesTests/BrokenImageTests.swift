import DiTImaging
import DiTPictures
import DiTTensor
import DiTTraining
import Foundation
import Testing

/// Pictures that cannot be decoded are named, and end the matter or are skipped.
@Suite("Pictures that cannot be decoded") struct BrokenImageTests {
  let scratch: Scratch

  init() throws {
    scratch = try Scratch()
    for seed in 0..<6 { try scratch.write(noise(seed), to: "\(["a", "b", "c"][seed % 3])/\(seed).png") }
  }

  private func open(cacheBytes: Int, _ broken: BrokenImages) throws -> (data: Dataset, notes: [String]) {
    try ImageFolder(scratch.path).dataset(
      channels: 1, height: 4, width: 6, options: PictureOptions(brokenImages: broken, cacheBytes: cacheBytes))
  }

  /// The whole file but for its end; a checksum that is off; another kind; nothing; no file at all.
  private func breakFile(_ kind: String) throws {
    var bytes = try scratch.bytes("b/4.png")
    switch kind {
    case "truncated": bytes.removeLast(20)
    case "another kind": bytes = Array("no picture at all".utf8)
    case "empty": bytes = []
    case "checksum": bytes[45] ^= 1  // of the pixels; the ends are as they were
    default:
      try scratch.remove("b/4.png")
      try FileManager.default.createSymbolicLink(atPath: scratch("b/4.png"), withDestinationPath: scratch("nowhere"))
      return
    }
    try scratch.write(bytes, to: "b/4.png")
  }

  @Test(
    "A broken picture is refused by path, or skipped and noted, with the other samples unchanged",
    arguments: ["truncated", "another kind", "empty", "checksum", "dangling"], [0, 1 << 20])
  func refusedOrSkipped(_ kind: String, _ cacheBytes: Int) throws {
    let whole = try open(cacheBytes: cacheBytes, .skip)
    #expect(whole.notes.isEmpty && whole.data.count == 6)
    try breakFile(kind)
    if kind == "checksum", cacheBytes == 0 {
      // Found when its turn comes.
      let data = try open(cacheBytes: cacheBytes, .refuse).data
      let error = #expect(throws: DiTError.self) { try data.sample(3) }
      #expect(description(error).hasPrefix("\(scratch("b/4.png")): "))
    } else {
      let error = #expect(throws: DiTError.self) { try open(cacheBytes: cacheBytes, .refuse) }
      #expect(description(error).hasPrefix("\(scratch("b/4.png")): "), "\(description(error))")
      #expect(!description(error).contains("more broken"))
    }
    let (data, notes) = try open(cacheBytes: cacheBytes, .skip)
    #expect(data.count == 5 && data.labels == [0, 0, 1, 2, 2] && data.classNames == ["a", "b", "c"])
    #expect(data.isStreamed == (cacheBytes == 0) && data.digest != whole.data.digest)
    #expect(notes.count == 1 && notes[0].hasPrefix("\(scratch.path): 1 broken picture skipped: b/4.png ("), "\(notes)")
    #expect(try (0..<5).map { try data.sample($0) } == [0, 3, 1, 2, 5].map { floats(planes(noise($0))) })
  }

  @Test("Several broken pictures are counted and named, and a folder with none left is refused")
  func severalAreCounted() throws {
    for name in ["a/0", "b/1", "c/2", "c/5"] { try scratch.write([7], to: "\(name).png") }
    let error = #expect(throws: DiTError.self) { try open(cacheBytes: 1 << 20, .refuse) }
    let text = description(error)
    #expect(text.hasPrefix(scratch("a/0.png")) && text.contains("3 more broken: \(scratch("b/1.png"))"), "\(text)")
    let (data, notes) = try open(cacheBytes: 1 << 20, .skip)
    #expect(data.labels == [0, 1] && data.classNames == ["a", "b", "c"], "a class may lose all its pictures")
    #expect(notes[0].contains("4 broken pictures skipped") && notes[0].contains("c/5.png ("))
    for name in ["a/3", "b/4"] { try scratch.write([7], to: "\(name).png") }
    #expect(throws: DiTError.self) { try open(cacheBytes: 1 << 20, .skip) }
  }

  @Test("A picture beyond the limits of size is refused by path", arguments: [0, 1 << 20])
  func limitsAreChecked(_ cacheBytes: Int) throws {
    try scratch.write(noise(9, width: 200, height: 3), to: "c/wide.png")
    var options = PictureOptions(cacheBytes: cacheBytes)
    options.limits.side = 100
    let folder = try ImageFolder(scratch.path)
    let error = #expect(throws: DiTError.self) {
      try folder.dataset(channels: 1, height: 4, width: 6, options: options)
    }
    #expect(description(error).hasPrefix(scratch("c/wide.png")) && description(error).contains("100"))
  }
}
