import DiTFiles
import DiTTensor
import Foundation
import Testing

@Suite("Comparing a state dict with the expected names and shapes") struct StateDictTests {
  let found: [StateDict.Key] = [("a", [2, 3]), ("b", [4]), ("c", [])]

  @Test("The same names and shapes pass in any order")
  func equalListsPass() throws {
    try StateDict.check(found, holds: found.reversed(), path: "m")
    try StateDict.check([], holds: [], path: "m")
  }

  @Test("One error lists all missing, unexpected and misshaped tensors")
  func everythingIsListed() throws {
    let expected: [StateDict.Key] = [("z", [1]), ("a", [3, 2]), ("c", []), ("y", [])]
    let error = #expect(throws: DiTError.self) {
      try StateDict.check(found, holds: expected, path: "model.safetensors")
    }
    #expect(error?.mismatch?.missing == ["z", "y"])
    #expect(error?.mismatch?.unexpected == ["b"])
    #expect(error?.mismatch?.misshaped == [.init(name: "a", expected: [3, 2], found: [2, 3])])
    #expect(
      error?.description
        == "model.safetensors: 2 tensors missing: z, y; 1 tensor unexpected: b; "
        + "1 tensor of another shape: a (expected [3, 2], found [2, 3])")
  }

  @Test("A long list is shortened in the message and complete in the error")
  func longListsAreCutInTheMessageOnly() throws {
    let expected = (0..<292).map { (name: "blocks.\($0)", shape: [1]) }
    let error = #expect(throws: DiTError.self) { try StateDict.check([], holds: expected, path: "m") }
    #expect(error?.mismatch?.missing == expected.map(\.name))
    let head = (0..<8).map { "blocks.\($0)" }.joined(separator: ", ")
    #expect(error?.description == "m: 292 tensors missing: \(head) and 284 more")
  }

  @Test("Optional tensors may be absent but keep their shape, and ignored ones are passed over")
  func optionalAndIgnoredNames() throws {
    let expected: [StateDict.Key] = [("a", [2, 3]), ("pos_embed", [1])]
    try StateDict.check(found, holds: expected, path: "m", optional: ["pos_embed"], ignoring: ["b", "c"])
    let error = #expect(throws: DiTError.self) {
      try StateDict.check(found, holds: expected, path: "m", optional: ["a"], ignoring: ["c"])
    }
    #expect(
      error?.mismatch?.missing == ["pos_embed"] && error?.mismatch?.unexpected == ["b"]
        && error?.mismatch?.misshaped == [])
    // A tensor that may be absent must have its shape all the same.
    #expect(throws: DiTError.self) {
      try StateDict.check([("a", [2])], holds: [("a", [3])], path: "m", optional: ["a"], ignoring: ["a"])
    }
  }

  @Test("The tensors of a file are compared, and the error names the file")
  func tensorsOfAFileAreCompared() throws {
    let file = try SafetensorsFile(contentsOf: fixture("layout.safetensors"))
    let keys = file.header.entries.map { (name: $0.name, shape: $0.shape) }
    try StateDict.check(file, holds: keys)
    let error = #expect(throws: DiTError.self) { try StateDict.check(file, holds: Array(keys.dropFirst())) }
    #expect(error?.mismatch?.unexpected == [file.names[0]] && error?.file == file.path)
  }
}
