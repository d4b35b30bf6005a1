import DiTFiles
import DiTTensor
import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

let isRoot = geteuid() == 0

func setPermissions(_ permissions: Int, of path: String) throws {
  try FileManager.default.setAttributes([.posixPermissions: permissions], ofItemAtPath: path)
}

@Suite("Files mapped into memory") struct MappedFileTests {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  func reason(_ path: String) -> FileProblem? {
    do {
      _ = try MappedFile(path: path)
      return nil
    } catch {
      #expect(error.file == path && error.description.hasPrefix(path))
      return error.fileProblem
    }
  }

  @Test("A mapped file gives the bytes of any range")
  func bytes() throws {
    try AtomicFile.write("0123456789", to: directory("a"))
    let file = try MappedFile(path: directory("a"))
    #expect(file.count == 10 && file.path == directory("a"))
    #expect(file.withBytes(3..<7) { $0.byteCount } == 4)
    #expect(file.withBytes(10..<10) { $0.byteCount } == 0)
  }

  @Test("Missing paths, directories, devices, empty files and loops of links are refused by reason")
  func pathsThatAreNoFilesAreRefused() throws {
    #expect(reason(directory("none")) == .missing)
    #expect(reason("") == .missing)
    #expect(reason(directory.path) == .notRegular(found: "a directory"))
    #expect(reason("/dev/null") == .notRegular(found: "a device"))
    try Data().write(to: URL(filePath: directory("empty")))
    #expect(reason(directory("empty")) == .empty)
    #expect(reason(directory("empty/x")) == .refused(operation: "open", code: ENOTDIR))
    try FileManager.default.createSymbolicLink(atPath: directory("loop"), withDestinationPath: "loop")
    #expect(reason(directory("loop")) == .refused(operation: "open", code: ELOOP))
  }

  /// Opening a pipe that nobody writes to must not wait.
  @Test("Opening a pipe without a writer is refused and does not wait")
  func aPipeIsRefused() {
    let status = unsafe mkfifo(directory("pipe"), 0o600)
    #expect(status == 0)
    #expect(reason(directory("pipe")) == .notRegular(found: "a pipe"))
  }

  @Test(
    "A file without read permission is refused with the system's error",
    .disabled(if: isRoot, "root may read everything"))
  func unreadable() throws {
    try AtomicFile.write("x", to: directory("secret"))
    try setPermissions(0, of: directory("secret"))
    #expect(reason(directory("secret")) == .refused(operation: "open", code: EACCES))
  }

  @Test("Errors of files are one line: the path, escaped, and the reason")
  func messages() {
    #expect(DiTError(file: "p", .missing).description == "p: no such file")
    #expect(DiTError(file: "p", .empty).description == "p: the file is empty")
    #expect(
      DiTError(file: "p\n", .notRegular(found: "a directory")).description
        == "p\\u{a}: expected a regular file, found a directory")
    #expect(
      DiTError(file: "p", .refused(operation: "open", code: EACCES)).description
        == "p: cannot open: Permission denied")
  }
}

@Suite("Files written atomically") struct AtomicFileTests {
  struct Stop: Error {}
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  func text(_ name: String) throws -> String { try String(contentsOfFile: directory(name), encoding: .utf8) }

  /// Why a file cannot be written to `path`.
  func reason(_ path: String) -> FileProblem? {
    let error = #expect(throws: DiTError.self, "\(path)") { try AtomicFile.write("new", to: path) }
    #expect(error?.file == path)
    return error?.fileProblem
  }

  @Test("Text, data and parts are written, and a second write replaces the first")
  func writesAndReplaces() throws {
    try AtomicFile.write("first", to: directory("a"))
    #expect(try text("a") == "first")
    try AtomicFile.write(Data("second".utf8), to: directory("a"))
    #expect(try text("a") == "second")
    try AtomicFile.write(to: directory("b")) { file in
      for part in ["one ", "", "two"] { try file.write(Array(part.utf8).span) }
    }
    #expect(try text("b") == "one two")
    try AtomicFile.write(Data(), to: directory("empty"))
    #expect(try text("empty") == "")
    #expect(try directory.contents == ["a", "b", "empty"])
  }

  @Test("A write that fails leaves the old file and nothing else")
  func failureLeavesTheOldFile() throws {
    try AtomicFile.write("old", to: directory("a"))
    #expect(throws: Stop.self) {
      try AtomicFile.write(to: directory("a")) { file in
        try file.write(Array("new".utf8).span)
        #expect(try directory.contents.count == 2)
        #expect(try text("a") == "old")
        throw Stop()
      }
    }
    #expect(try text("a") == "old")
    #expect(try directory.contents == ["a"])
  }

  @Test("A first write that fails leaves no file")
  func failureLeavesNoFile() throws {
    #expect(throws: Stop.self) {
      try AtomicFile.write(to: directory("a")) { file in
        try file.write(Array("new".utf8).span)
        throw Stop()
      }
    }
    #expect(try directory.contents == [])
  }

  @Test("A file that is not committed does not appear")
  func withoutCommitThereIsNoFile() throws {
    do {
      let file = try AtomicFile(path: directory("a"))
      try file.write([1, 2, 3].span)
    }
    #expect(try directory.contents == [])
  }

  /// The target turns into a directory while the file is being written, so that the rename fails.
  @Test("A rename that fails throws the system's error and leaves no temporary file")
  func aFailedRenameLeavesNoFile() throws {
    let file = try AtomicFile(path: directory("a"))
    try file.write([1, 2, 3].span)
    try FileManager.default.createDirectory(atPath: directory("a"), withIntermediateDirectories: false)
    var found: DiTError?
    do { try file.commit() } catch { found = error }
    #expect(found == DiTError(output: directory("a"), .refused(operation: "replace", code: EISDIR)))
    #expect(try directory.contents == ["a"])
  }

  @Test("Directories, pipes and empty names are refused as targets")
  func targetsThatAreNoFiles() throws {
    #expect(reason(directory.path) == .notRegular(found: "a directory"))
    #expect(reason(directory.path + "/") == .notRegular(found: "a directory"))
    #expect(reason(directory("new/")) == .notRegular(found: "no file name"))
    #expect(reason("") == .notRegular(found: "no file name"))
    #expect(try directory.contents == [])
    // A pipe of our own, not a device of the machine: a writer that is wrong would replace it.
    let status = unsafe mkfifo(directory("pipe"), 0o600)
    #expect(status == 0)
    #expect(reason(directory("pipe")) == .notRegular(found: "a pipe"))
    #expect(try directory.contents == ["pipe"])
  }

  @Test("A missing directory or a file in its place is refused by reason")
  func directoriesThatTakeNoFile() throws {
    #expect(
      reason(directory("none/a")) == .refused(operation: "create a file in the directory of", code: ENOENT),
      "it is not the file that is missing")
    try AtomicFile.write("x", to: directory("file"))
    #expect(reason(directory("file/a")) == .refused(operation: "inspect", code: ENOTDIR))
    #expect(try text("file") == "x")
    #if os(Linux)
      #expect(reason("/proc/dit-none") != nil)
    #endif
  }

  @Test(
    "A directory without write permission is refused and the old file kept",
    .disabled(if: isRoot, "root may write everywhere"))
  func readOnlyDirectory() throws {
    try AtomicFile.write("old", to: directory("a"))
    try setPermissions(0o555, of: directory.path)
    defer { try? setPermissions(0o755, of: directory.path) }
    #expect(reason(directory("a")) == .refused(operation: "create a file in the directory of", code: EACCES))
    #expect(try text("a") == "old")
  }

  #if os(Linux)
    /// The device that is always full.
    @Test("A full disk is refused with the system's error")
    func fullDisk() throws {
      let full = try #require(FileHandle(forWritingAtPath: "/dev/full"))
      let expected = DiTError(output: "p", .refused(operation: "write", code: ENOSPC))
      #expect(throws: expected) { try AtomicFile.write([1, 2, 3].span, to: full.fileDescriptor, path: "p") }
      #expect(expected.description == "p: cannot write: No space left on device")
    }
  #endif

  @Test("Writing to a symbolic link replaces its target and keeps the link")
  func linksAreFollowed() throws {
    try FileManager.default.createDirectory(atPath: directory("sub"), withIntermediateDirectories: false)
    try AtomicFile.write("old", to: directory("sub/real"))
    try FileManager.default.createSymbolicLink(atPath: directory("link"), withDestinationPath: "sub/real")
    try AtomicFile.write("new", to: directory("link"))
    #expect(try text("sub/real") == "new")
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: directory("link")) == "sub/real")
  }

  @Test("Replacing a file keeps its permissions")
  func permissionsAreKept() throws {
    func permissions() throws -> Int? {
      try FileManager.default.attributesOfItem(atPath: directory("a"))[.posixPermissions] as? Int
    }
    try AtomicFile.write("old", to: directory("a"))
    try setPermissions(0o640, of: directory("a"))
    try AtomicFile.write("new", to: directory("a"))
    #expect(try permissions() == 0o640)
  }

  @Test("Of many concurrent writers one wins whole, and no temporary file is left")
  func manyWritersOfOneFile() async throws {
    let path = directory("a")
    let texts = (0..<8).map { String(repeating: "\($0)", count: 100_000) }
    try await withThrowingTaskGroup { group in
      for text in texts { group.addTask { try AtomicFile.write(text, to: path) } }
      try await group.waitForAll()
    }
    #expect(try texts.contains(text("a")))
    #expect(try directory.contents == ["a"])
  }
}
