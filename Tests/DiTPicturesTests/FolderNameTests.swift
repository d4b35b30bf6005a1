import DiTFiles
import DiTImaging
import DiTPictures
import DiTTensor
import DiTTraining
import Foundation
import Testing

/// Names that are not UTF-8, and names that look alike.
@Suite("Names of folders and pictures") struct FolderNameTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private static let latin = FileName.string(of: [0x63, 0x61, 0x66, 0xE9])  // café in Latin-1

  private func fill(_ names: [String], endingIn ending: String = "") throws {
    for (seed, name) in names.enumerated() {
      try Directory.create(Paths.parent(of: scratch(name)))
      try noise(seed).writePNG(to: scratch(name))
    }
  }

  private func samples(_ cacheBytes: Int) throws -> (data: Dataset, notes: [String]) {
    try ImageFolder(scratch.path).dataset(
      channels: 1, height: 4, width: 6, options: PictureOptions(cacheBytes: cacheBytes))
  }

  @Test("A folder and pictures in Latin-1 are a class and its pictures, shown escaped", arguments: [0, 1 << 20])
  func latinNames(_ cacheBytes: Int) throws {
    try fill(["\(Self.latin)/a.png", "\(Self.latin)/\(Self.latin).PNG", "zoo/b.png", "zoo/\(Self.latin)/c.png"])
    try Directory.create(scratch("zoo/\(Self.latin)"))
    try AtomicFile.write("x", to: scratch("zoo/\(Self.latin).txt"))
    let folder = try ImageFolder(scratch.path)
    #expect(folder.classNames == [#"caf\xe9"#, "zoo"] && folder.labels == [0, 0, 1, 1])
    #expect(
      folder.notes == [
        #"\#(scratch.path): 1 file of other endings passed over: zoo/caf\xe9.txt"#
      ])
    let (data, notes) = try samples(cacheBytes)
    #expect(notes.isEmpty && data.labels == [0, 0, 1, 1] && data.classNames == folder.classNames)
    #expect(try (0..<4).map { try data.sample($0) } == [0, 1, 2, 3].map { floats(planes(noise($0))) })
  }

  @Test("A broken picture in Latin-1 is named escaped")
  func brokenOnesAreNamed() throws {
    try fill(["\(Self.latin)/a.png", "zoo/b.png"])
    try AtomicFile.write("no picture", to: scratch("\(Self.latin)/\(Self.latin).png"))
    let error = #expect(throws: DiTError.self) { try samples(1 << 20) }
    #expect(
      description(error)
        == #"\#(scratch.path)/caf\xe9/caf\xe9.png: expected a PNG, a JPEG or a WebP, found a text file"#)
    let streamed = #expect(throws: DiTError.self) { try samples(0) }
    #expect(streamed == error)
    var options = PictureOptions()
    options.brokenImages = .skip
    let (data, notes) = try ImageFolder(scratch.path).dataset(channels: 1, height: 4, width: 6, options: options)
    #expect(data.count == 2 && notes.count == 1)
    #expect(notes[0].contains(#"1 broken picture skipped: caf\xe9/caf\xe9.png (expected"#))
  }

  @Test("Folders whose names differ by their normal form are two classes")
  func normalForms() throws {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}")
    try fill(["\(composed)/a.png", "\(decomposed)/a.png", "zoo/a.png"])
    let (data, notes) = try samples(1 << 20)
    #expect(data.classNames?.map { Array($0.utf8) } == [decomposed, composed, "zoo"].map { Array($0.utf8) })
    #expect(notes.isEmpty && data.labels == [0, 1, 2])
    #expect(try (0..<3).map { try data.sample($0) } == [1, 0, 2].map { floats(planes(noise($0))) })
  }

  @Test("Names that begin with an accent are not hidden, and end as others do")
  func accents() throws {
    try fill(["a/\u{301}b.png", "\u{301}b/c.png", "b/.\u{301}hidden.png", "b/d.png"])
    let folder = try ImageFolder(scratch.path)
    #expect(folder.classNames == ["a", "b", "\u{301}b"] && folder.count == 3)
  }

  @Test("WebP pictures are data, and one that is cut off is found without decoding")
  func webp() throws {
    let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/webp")
    for (file, name) in [("lossy", "a/1.webp"), ("lossless_alpha", "a/2.WEBP"), ("animated", "b/3.webp")] {
      try scratch.write([UInt8](Data(contentsOf: fixtures.appending(path: "\(file).webp"))), to: name)
    }
    try fill(["b/4.png"])
    for cacheBytes in [0, 1 << 20] {
      let (data, notes) = try samples(cacheBytes)
      #expect(data.labels == [0, 0, 1, 1] && notes.isEmpty)
      let expected = try Image(contentsOf: scratch("a/2.WEBP"), fittedTo: (6, 4)).converted(toChannels: 1)
      #expect(try data.sample(1) == floats(planes(expected)))
    }
    let whole = try scratch.bytes("a/1.webp")
    try scratch.write(Array(whole.dropLast(9)), to: "a/1.webp")
    let error = #expect(throws: DiTError.self) { try samples(0) }
    #expect(description(error).hasPrefix("\(scratch.path)/a/1.webp: the WebP is truncated"))
  }
}
