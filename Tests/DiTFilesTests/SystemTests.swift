import DiTFiles
import DiTTensor
import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite("Paths, directories and open files") struct SystemTests {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  @Test("Paths are joined, resolved and taken apart as strings")
  func paths() {
    #expect(Paths.join("a", "b") == "a/b" && Paths.join("a/", "b") == "a/b" && Paths.join("/", "b") == "/b")
    #expect(Paths.resolve("b", in: "a") == "a/b" && Paths.resolve("/b", in: "a") == "/b")
    let parents = [
      "a/b": "a", "a": ".", "": ".", "/a": "/", "/": "/", "a/b/": "a", "a//b//": "a", "//a": "/", "./a": ".", "//": "/",
    ]
    for (path, parent) in parents { #expect(Paths.parent(of: path) == parent, "\(path)") }
  }

  @Test("A directory is made with those above it, and what stands in its way is named")
  func create() throws {
    for name in ["a/b/c", "a/b/c", "a/d/", "a"] { try Directory.create(directory(name)) }
    #expect(try Directory.names(directory("a")) == ["b", "d"] && Directory.names(directory("a/b")) == ["c"])
    #expect(try Directory.names(directory("none")) == [])
    try FileManager.default.createSymbolicLink(atPath: directory("loop"), withDestinationPath: "loop")
    #expect(throws: DiTError(file: directory("loop"), .refused(operation: "list", code: ELOOP))) {
      try Directory.names(directory("loop"))
    }
    try AtomicFile.write("x", to: directory("file"))
    #expect(try Directory.names(directory("file")) == [] && Directory.names(directory("file/below")) == [])
    #expect(
      throws: DiTError(output: directory("file"), .refused(operation: "create the directory", code: EEXIST))
    ) { try Directory.create(directory("file")) }
    #expect(throws: DiTError(file: directory("file/x"), .refused(operation: "inspect", code: ENOTDIR))) {
      try Directory.create(directory("file/x"))
    }
    try FileManager.default.createSymbolicLink(atPath: directory("link"), withDestinationPath: "a")
    try Directory.create(directory("link/e"))
    #expect(try Directory.names(directory("a")) == ["b", "d", "e"])
  }

  @Test("Removing takes a file or a whole directory, and nothing where there is none")
  func remove() throws {
    try Directory.create(directory("a/b"))
    for name in ["a/b/1", "2"] { try AtomicFile.write("x", to: directory(name)) }
    for name in ["a", "2", "none"] { try Directory.remove(directory(name)) }
    #expect(try directory.contents == [])
  }

  @Test("A directory is renamed only to a name that is free")
  func rename() throws {
    try Directory.create(directory("a/b"))
    try Directory.rename(directory("a"), to: directory("c"))
    #expect(try directory.contents == ["c"])
    try Directory.create(directory("a"))
    #expect(throws: DiTError(output: directory("c"), .refused(operation: "put in place", code: ENOTEMPTY))) {
      try Directory.rename(directory("a"), to: directory("c"))
    }
    #expect(try Directory.names(directory("c")) == ["b"])
  }

  @Test("A directory appears complete or not at all, also under a temporary name of the caller's")
  func atomicDirectory() throws {
    do {
      let unfinished = try AtomicDirectory(path: directory("new/a"), temporaryName: ".partial")
      try AtomicFile.write("1", to: "\(unfinished.temporary)/x")
      #expect(try Directory.names(directory("new")) == [".partial"])
    }
    #expect(try Directory.names(directory("new")) == [])
    for text in ["1", "2"] {
      let made = try AtomicDirectory(path: directory("new/a"))
      try AtomicFile.write(text, to: "\(made.temporary)/\(text)")
      try made.commit()
      #expect(try Directory.names(directory("new")) == ["a"] && Directory.names(directory("new/a")) == [text])
    }
    try Directory.create(directory("new/.partial"))
    #expect(throws: DiTError.self) { _ = try AtomicDirectory(path: directory("new/b"), temporaryName: ".partial") }
    #expect(try Directory.names(directory("new")) == [".partial", "a"], "what another left is not removed")
    try AtomicFile.write("x", to: directory("file"))
    #expect(
      throws: DiTError(output: directory("file"), .refused(operation: "make a directory of", code: ENOTDIR))
    ) { _ = try AtomicDirectory(path: directory("file")) }
  }

  @Test("The first bytes of a regular file are read; a pipe is refused without waiting")
  func regularFile() throws {
    try AtomicFile.write("0123456789", to: directory("a"))
    let file = try RegularFile(path: directory("a"))
    #expect(file.size == 10)
    #expect(try file.bytes(upTo: 4) == Array("0123".utf8))
    #expect(try file.bytes() == Array("0123456789".utf8) && file.bytes(upTo: 0) == [])
    try AtomicFile.write("", to: directory("empty"))
    #expect(try RegularFile(path: directory("empty")).bytes() == [])
    let status = unsafe mkfifo(directory("pipe"), 0o600)
    #expect(status == 0)
    for (name, found) in [("pipe", "a pipe"), (".", "a directory")] {
      #expect(throws: DiTError(file: directory(name), .notRegular(found: found))) {
        _ = try RegularFile(path: directory(name))
      }
    }
  }

  @Test("An appended file grows by what is written; a new one takes no name that is taken")
  func appendedFile() throws {
    do {
      let file = try AppendedFile(creating: directory("a"))
      try file.write([1, 2].span)
      #expect(throws: DiTError.self) { _ = try AppendedFile(creating: directory("a")) }
      try file.write([3].span)
    }
    try AppendedFile(path: directory("a")).write([4].span)
    #expect(try RegularFile(path: directory("a")).bytes() == [1, 2, 3, 4])
    do {
      _ = try AppendedFile(creating: directory("a"))
      Issue.record("a file that was there was created")
    } catch { #expect(error.isTaken) }
    do {
      _ = try AppendedFile(path: directory("none"))
      Issue.record("a file that is not there was opened")
    } catch { #expect(error.fileProblem == .missing && !error.isTaken) }
  }

  @Test("What waits in a file without a name is read back, and leaves nothing")
  func unnamedFile() throws {
    let file = try UnnamedFile(for: directory("out"))
    #expect(try directory.contents == [])
    for byte in 0..<10 { try file.append([UInt8(byte), 7].span) }
    #expect(try file.bytes(at: 6, count: 5) == [3, 7, 4, 7, 5])
    #expect(throws: DiTError.self) { try file.bytes(at: 18, count: 3) }
    #expect(throws: DiTError.self) { _ = try UnnamedFile(for: directory("none/out")) }
  }
}
