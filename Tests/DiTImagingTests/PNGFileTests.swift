import DiTImaging
import DiTTensor
import Foundation
import Testing

@Suite("Writing and reading PNG files") struct PNGFileTests {
  private let image = Image.random(width: 11, height: 6, channels: 3, seed: 6)

  @Test("A written PNG reads back equal and replaces the file that was there")
  func writesWhatItReads() throws {
    try withTemporaryDirectory { directory in
      let path = directory.appending(path: "a name, with ü.png").path
      try Image(width: 2, height: 2, channels: 1, shade: 0).writePNG(to: path)
      try image.writePNG(to: path, text: [("seed", "1")])
      #expect(try Image(contentsOf: path) == image)
      #expect(try [UInt8](Data(contentsOf: URL(filePath: path))) == image.pngData(text: [("seed", "1")]))
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["a name, with ü.png"])
    }
  }

  @Test("A failed write leaves the old file and no temporary file")
  func aFailureLeavesWhatWasThere() throws {
    try withTemporaryDirectory { directory in
      let path = directory.appending(path: "kept.png").path
      try image.writePNG(to: path)
      #expect(throws: DiTError.self) {
        try Image(width: 1, height: 1, channels: 1, shade: 0).writePNG(to: path, text: [("", "")])
      }
      #expect(try Image(contentsOf: path) == image)
      let folder = directory.appending(path: "folder.png").path
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
      expectUnwritable(folder, "directory")
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted() == ["folder.png", "kept.png"])
    }
  }

  @Test("A path that cannot be written is refused with the path and the reason")
  func placesThatCannotBeWrittenAreNamed() throws {
    try withTemporaryDirectory { directory in
      expectUnwritable(directory.appending(path: "none/x.png").path, "No such file or directory")
      try Data().write(to: directory.appending(path: "file"))
      expectUnwritable(directory.appending(path: "file/x.png").path, "Not a directory")
      expectUnwritable(directory.path + "/" + String(repeating: "x", count: 300), "File name too long")
      expectUnwritable("", "No such file or directory")
      expectUnwritable(directory.path + "/a\0b.png", "NUL")
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["file"], "nothing is left behind")
    }
  }

  @Test("Devices are written to directly, and symbolic links are followed and kept")
  func devicesAreWrittenToAndLinksFollowed() throws {
    #if os(Linux)
      expectUnwritable("/dev/full", "No space left")
    #endif
    try image.writePNG(to: "/dev/null")
    let kind = try FileManager.default.attributesOfItem(atPath: "/dev/null")[.type] as? FileAttributeType
    #expect(kind == .typeCharacterSpecial)
    try withTemporaryDirectory { directory in
      let (target, link) = (directory.appending(path: "target.png"), directory.appending(path: "link.png"))
      try Data([1]).write(to: target)
      try FileManager.default.createSymbolicLink(at: link, withDestinationURL: target)
      try image.writePNG(to: link.path)
      #expect(try Image(contentsOf: target.path) == image)
      #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link.path) == target.path)
    }
  }

  @Test("A path that cannot be read is refused with the path and the reason")
  func filesThatCannotBeReadAreNamed() throws {
    try withTemporaryDirectory { directory in
      for (path, words) in [
        (directory.path + "/none.png", "No such file"), (directory.path, "it is a directory"), ("a\0b", "NUL"),
      ] {
        let error = #expect(throws: DiTError.self) { try Image(contentsOf: path) }
        let text = error.map(String.init(describing:)) ?? ""
        #expect(error?.file == path && text.contains(words), "\(text)")
      }
      let large = directory.appending(path: "large.png")
      try Data(count: 1000).write(to: large)
      #expect(throws: DiTError(image: large.path, .fileTooLarge(bytes: 1000, maximum: 999))) {
        try Image(contentsOf: large.path, limits: ImageLimits(fileBytes: 999))
      }
    }
  }

  private func expectUnwritable(_ path: String, _ words: String, location: SourceLocation = #_sourceLocation) {
    let error = #expect(throws: DiTError.self, sourceLocation: location) { try image.writePNG(to: path) }
    let text = error.map(String.init(describing:)) ?? ""
    let shown = path.replacing("\0", with: #"\u{0}"#)
    #expect(
      text.hasPrefix(path.isEmpty ? "cannot be written" : shown + ": cannot be written") && text.contains(words),
      "\(text)", sourceLocation: location)
  }
}
