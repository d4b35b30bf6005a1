import DiTFiles
import DiTTensor
import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Any bytes that a file system takes are a name.
@Suite("Names of files that are not UTF-8") struct FileNameTests {
  static let latin = FileName.string(of: [0x63, 0x61, 0x66, 0xE9])  // café in Latin-1
  static let names: [[UInt8]] =
    (1...255).map { [UInt8($0)] } + [
      Array("café".utf8), Array("家.png".utf8), [0x63, 0x61, 0x66, 0xE9], [0xE9, 0x2E, 0x70, 0x6E, 0x67],
      [0xC3], [0xC3, 0xA9, 0xC3], [0xE5, 0xAE], [0xED, 0xA0, 0x80], [0xC0, 0xAF], [0xF4, 0x90, 0x80, 0x80],
      [0xFF, 0xFE],
      Array("\u{10F7E9}".utf8), Array("a\u{10F780}b\u{10F7FF}".utf8), Array("\u{10F77F}\u{10F800}".utf8),
      Array("\u{10F7E9}".utf8) + [0xE9], Array("\u{FFFD}".utf8), Array("e\u{301}\r\n".utf8),
    ]

  @Test("Every name has one string, which leads back to its bytes; a name in UTF-8 is its own", arguments: names)
  func roundTrips(bytes: [UInt8]) {
    let string = FileName.string(of: bytes)
    #expect(FileName.bytes(of: string) == bytes)
    #expect(FileName.terminated(string) == bytes.map(CChar.init(bitPattern:)) + [0])
    if let text = String(validating: bytes, as: UTF8.self), !text.contains("\u{10F7E9}"), !text.contains("\u{10F780}") {
      #expect(string.utf8.elementsEqual(text.utf8))
    }
  }

  @Test("Random bytes are names")
  func randomBytes() {
    var random = Philox(seed: 4)
    for _ in 0..<2000 {
      let bytes = (0..<Int(random.next() % 12)).map { _ in UInt8(truncatingIfNeeded: random.next() >> 30) }
      #expect(FileName.bytes(of: FileName.string(of: bytes)) == bytes)
    }
  }

  @Test("Different names are different texts, in plain Unicode")
  func texts() {
    let spelled = #"caf\xe9"#
    #expect(FileName.text(Self.latin) == spelled && FileName.shown("a/\(Self.latin): b") == #"a/caf\xe9: b"#)
    #expect(FileName.text(spelled) == #"caf\\xe9"# && FileName.text("a\\b é") == "a\\b é")
    let names = Self.names.map { FileName.string(of: $0) } + [spelled, #"caf\\xe9"#, #"\"#, #"\\"#, #"\x"#, #"\\x"#]
    let texts = names.map { FileName.text($0) }
    #expect(Set(texts.map { Array($0.utf8) }).count == Set(names.map { Array($0.utf8) }).count)
    #expect(texts.allSatisfy { $0 == FileName.shown($0) })
    #expect(Message.oneLine("\(Self.latin)\n") == #"caf\xe9\u{a}"#)
    #expect(FileName.spelled("e\u{301}\u{e9}k") == #"e\u{301}\u{e9}k"# && FileName.spelled(Self.latin) == spelled)
  }

  @Test("A directory's names are listed whatever their bytes, in the order of these")
  func listing() throws {
    let directory = try TemporaryDirectory()
    let bytes: [[UInt8]] = [
      [0x61], [0x63, 0x61, 0x66, 0xE9], Array("cafe\u{301}".utf8), Array("caf\u{e9}".utf8), [0xE5, 0xAE, 0xB6], [0xE9],
      Array("\u{301}b".utf8), Array(".\u{301}c".utf8), [0xFF],
    ]
    for name in bytes { try AtomicFile.write("x", to: directory(FileName.string(of: name))) }
    let sorted = bytes.sorted { $0.lexicographicallyPrecedes($1) }
    #expect(try Directory.names(directory("")).map { FileName.bytes(of: $0) } == sorted)
    #expect(throws: DiTError(file: directory("none"), .missing)) { try Directory.listing(directory("none")) }
  }

  @Test("Files and directories of such names are written, read, copied, replaced and removed")
  func files() throws {
    let directory = try TemporaryDirectory()
    let (folder, file) = (directory(Self.latin), directory("\(Self.latin)/\(Self.latin).bin"))
    try Directory.create(folder)
    try AtomicFile.write("one", to: file)
    try AtomicFile.write("two", to: file)
    #expect(try RegularFile(path: file).bytes() == Array("two".utf8))
    #expect(try MappedFile(path: file).count == 3)
    #expect(try FileStatus(path: file)?.isRegular == true && FileStatus.exists(folder))
    try AppendedFile(path: file).write(Array("!".utf8).span)
    let link = directory("link")
    #expect(unsafe symlink(FileName.terminated(file), link) == 0)
    try AtomicFile.write("three", to: link)
    #expect(try RegularFile(path: file).bytes() == Array("three".utf8))
    try Directory.copyFiles(of: folder, to: directory("\(Self.latin)2"))
    #expect(try Directory.names(directory("\(Self.latin)2")) == ["\(Self.latin).bin"])
    let whole = try AtomicDirectory(path: folder)
    try AtomicFile.write("x", to: "\(whole.temporary)/new")
    try whole.commit()
    #expect(try Directory.names(folder) == ["new"])
    try Directory.rename(folder, to: directory("plain"))
    try Directory.remove(directory("\(Self.latin)2"))
    #expect(try Directory.names(directory("")) == ["link", "plain"])
    let missing = #expect(throws: DiTError.self) { _ = try RegularFile(path: file) }
    #expect(missing?.description == "\(directory("caf\\xe9/caf\\xe9.bin")): no such file")
  }

  @Test("Slashes are slashes, whatever stands behind them")
  func paths() {
    #expect(Paths.parent(of: "a/\u{301}b") == "a" && Paths.name(of: "a/\u{301}b") == "\u{301}b")
    #expect(Paths.join("a/", "\u{301}b") == "a/\u{301}b" && Paths.resolve("/\u{301}b", in: "a") == "/\u{301}b")
    for (path, name) in ["a/b": "b", "a": "a", "/a//": "a", "/": "/", "": ""] { #expect(Paths.name(of: path) == name) }
  }

  @Test("Names that look alike are two names: tensors, metadata, JSON keys, entries of archives")
  func normalForms() throws {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}")
    #expect(composed == decomposed && ExactName(composed) != ExactName(decomposed))
    #expect(Set([composed, decomposed].map { ExactName($0) }).count == 2)
    let directory = try TemporaryDirectory()
    let path = directory("x.safetensors")
    try SafetensorsWriter.write(
      [
        TensorSource(composed, shape: [1], integers: [1]), TensorSource(decomposed, shape: [2], integers: [2, 3]),
      ], metadata: ["a": "b"], to: path)
    let file = try SafetensorsFile(contentsOf: path)
    #expect(file.entry(named: composed)?.shape == [1] && file.entry(named: decomposed)?.shape == [2])
    #expect(try file.integers(composed).values == [1] && file.integers(decomposed).values == [2, 3])
    let object = try JSONValue(parsing: Array(#"{"\#(composed)": 1, "\#(decomposed)": 2}"#.utf8), file: "x")
    guard case .object(let members) = object else {
      Issue.record("no object")
      return
    }
    #expect(members.map(\.value) == [.integer(1), .integer(2)])
    #expect(throws: DiTError.self) {
      try JSONValue(parsing: Array(#"{"\#(composed)": 1, "\#(composed)": 2}"#.utf8), file: "x")
    }
    #expect(throws: DiTError.self) {
      try StateDict.check([(composed, [1])], holds: [(decomposed, [1])], path: "x")
    }
  }
}
