import DiTFiles
import DiTTensor
import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite("Locked folders and what killed processes leave") struct LockTests {
  let directory: TemporaryDirectory
  private static let name = ".lock"

  init() throws { directory = try TemporaryDirectory() }

  private func holder(_ error: DiTError?) -> (by: String, file: String?)? {
    if case .inUse(let by, let file)? = error?.fileProblem { (by, file) } else { nil }
  }

  @Test("A folder is one owner's at a time, and another is told whose; it is free again with the owner")
  func oneOwner() throws {
    let path = directory("run")
    try Directory.create(path)
    do {
      let lock = try FolderLock(path, name: Self.name)
      try lock.check()
      let error = #expect(throws: DiTError.self) { try FolderLock(path, name: Self.name) }
      let found = try #require(holder(error))
      #expect(found.by.hasPrefix("process \(getpid()) on ") && found.file == nil, "\(found)")
      #expect(error?.description == "\(path): in use by \(found.by)")
      #expect(try Directory.names(path) == [Self.name])
      withExtendedLifetime(lock) {}
    }
    #expect(try Directory.names(path) == [], "the file goes with the lock")
    _ = try FolderLock(path, name: Self.name)
  }

  /// What a killed process leaves: the file, without a lock.
  @Test("A lock's file without a lock keeps nobody out, whatever it says")
  func deadOwner() throws {
    let path = directory("run")
    try Directory.create(path)
    for text in ["process 1 on elsewhere\n", "", String(repeating: "x", count: 5000)] {
      try AtomicFile.write(text, to: "\(path)/\(Self.name)")
      let lock = try FolderLock(path, name: Self.name)
      let said = FileManager.default.contents(atPath: "\(path)/\(Self.name)").map {
        String(decoding: $0, as: UTF8.self)
      }
      #expect(said?.hasPrefix("process \(getpid()) on ") == true && said?.hasSuffix("\n") == true)
      withExtendedLifetime(lock) {}
    }
  }

  @Test("On a file system without locks the file keeps out whom it does not name as an ended process of this machine")
  func withoutLocks() throws {
    let path = directory("run")
    try Directory.create(path)
    do {
      let lock = try FolderLock(path, name: Self.name, assumingLocks: false)
      let error = #expect(throws: DiTError.self) { try FolderLock(path, name: Self.name, assumingLocks: false) }
      #expect(holder(error)?.file == "\(path)/\(Self.name)")
      #expect(error?.description.contains("if that process has ended, remove \(path)/\(Self.name)") == true)
      withExtendedLifetime(lock) {}
    }
    #expect(try Directory.names(path) == [])
    // The second number is beyond those that systems give: on this machine such a process is not there.
    for process in [1, 2_000_000_000] {
      try AtomicFile.write("process \(process) on elsewhere.invalid\n", to: "\(path)/\(Self.name)")
      let error = #expect(throws: DiTError.self) { try FolderLock(path, name: Self.name, assumingLocks: false) }
      #expect(holder(error)?.by == "process \(process) on elsewhere.invalid")
    }
    var name = utsname()
    let status = unsafe uname(&name)
    #expect(status == 0)
    let machine = unsafe withUnsafeBytes(of: &name.nodename) {
      unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
    try AtomicFile.write("process 2000000000 on \(machine)\n", to: "\(path)/\(Self.name)")
    _ = try FolderLock(path, name: Self.name, assumingLocks: false)
  }

  @Test("A folder that was removed, moved or replaced is no longer its owner's")
  func vanished() throws {
    let path = directory("run")
    for replace in [false, true] {
      try Directory.create(path)
      let lock = try FolderLock(path, name: Self.name)
      try FileManager.default.moveItem(atPath: path, toPath: directory("moved"))
      if replace { try Directory.create(path) }
      #expect(throws: DiTError(output: path, .vanished)) { try lock.check() }
      if replace {
        let other = try FolderLock(path, name: Self.name)
        try other.check()
        #expect(throws: DiTError(output: path, .vanished)) { try lock.check() }
        withExtendedLifetime(other) {}
      }
      try Directory.remove(directory("moved"))
    }
    #expect(throws: DiTError.self) { try FolderLock(directory("none"), name: Self.name) }
    #expect(!FileManager.default.fileExists(atPath: directory("none")))
  }

  @Test("What killed processes left goes when a file is next written there; what has an owner, or another name, stays")
  func leftovers() throws {
    // 2 had replaced a directory and not yet removed it; 3 was about to replace one.
    for name in [
      ".dit-1.tmp", ".dit-locked.tmp", ".dit-x", "dit-1.tmp", ".dit-2.tmp.old/x", ".dit-folder.tmp/x", ".dit-3.tmp/x",
      ".dit-3.tmp.old/x",
    ] {
      try Directory.create(Paths.parent(of: directory(name)))
      try Data("x".utf8).write(to: URL(filePath: directory(name)))
    }
    let stays = directory("stays")
    try Data("y".utf8).write(to: URL(filePath: stays))
    try FileManager.default.createSymbolicLink(atPath: directory(".dit-link.tmp"), withDestinationPath: stays)
    let locked = unsafe open(directory(".dit-locked.tmp"), O_RDWR)
    #expect(locked >= 0 && flock(locked, LOCK_EX | LOCK_NB) == 0)
    defer { close(locked) }
    let unfinished = try AtomicFile(path: directory("unfinished"))
    let names = try directory.contents
    #expect(names.filter { $0.hasPrefix(".dit-") }.count == 6, "\(names)")
    for name in [".dit-locked.tmp", ".dit-x", "dit-1.tmp", ".dit-3.tmp", ".dit-3.tmp.old", ".dit-link.tmp", "stays"] {
      #expect(names.contains(name), "\(name): \(names)")
    }
    for name in [".dit-1.tmp", ".dit-2.tmp.old", ".dit-folder.tmp"] {
      #expect(!names.contains(name), "\(name): \(names)")
    }
    try unfinished.commit()
    #expect(try directory.contents.contains("unfinished"))
  }

  @Test("A directory that is not to replace another leaves one that came meanwhile, unless it is empty")
  func commitWithoutReplacing() throws {
    let made = try AtomicDirectory(path: directory("a"))
    try AtomicFile.write("new", to: "\(made.temporary)/x")
    try Directory.create(directory("a"))
    try AtomicFile.write("other", to: directory("a/y"))
    var refusal: DiTError?
    do throws(DiTError) {
      try made.commit(replacing: false)
    } catch {
      refusal = error
    }
    #expect(refusal == DiTError(output: directory("a"), .refused(operation: "put in place", code: ENOTEMPTY)))
    #expect(try directory.contents == ["a"] && Directory.names(directory("a")) == ["y"])
    let second = try AtomicDirectory(path: directory("b"))
    try AtomicFile.write("new", to: "\(second.temporary)/x")
    try Directory.create(directory("b"))
    try second.commit(replacing: false)
    #expect(try Directory.names(directory("b")) == ["x"])
  }
}
