import Foundation
import Testing

/// What the scripts say of the tests: lists kept by hand, held against the code.
@Suite struct ScriptTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  private static func text(_ path: String) throws -> String {
    try String(contentsOf: root.appending(path: path), encoding: .utf8)
  }

  /// The words of the array `name` of a shell script.
  private static func list(_ name: String, in script: String) throws -> [String] {
    let start = try #require(script.range(of: "\n\(name)=(\n"), "\(name)").upperBound
    let end = try #require(script.range(of: "\n)", range: start..<script.endIndex)).lowerBound
    return script[start..<end].split { $0.isWhitespace }.map(String.init)
  }

  @Test("Scripts/test has every test target in one of its lists")
  func everyTargetIsInAList() throws {
    let (script, package) = try (Self.text("Scripts/test"), Self.text("Package.swift"))
    let targets = package.matches(of: /\.testTarget\(\s*name: "(\w+)"/).map { String($0.1) }
    let listed = try ["every_level", "own_levels", "once"].flatMap { try Self.list($0, in: script) }
    #expect(targets.count > 10)
    #expect(listed.sorted() == targets.sorted())
  }

  /// But for the suites whose subject is the choice itself, and the sharing of one context.
  @Test("Tests that run once because they choose their levels leave no level to DIT_ISA")
  func levelsAreChosen() throws {
    for target in try Self.list("own_levels", in: Self.text("Scripts/test")) {
      let folder = Self.root.appending(path: "Tests/\(target)")
      let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
      for file in files where !["ContextTests.swift", "DeterminismTests.swift"].contains(file.lastPathComponent) {
        let calls = try String(contentsOf: file, encoding: .utf8).matches(of: /ComputeContext\(([^)]*)\)/)
        let open = calls.filter { !$0.1.contains("instructionSet:") && !$0.1.contains("kernels:") }.map { String($0.0) }
        #expect(open.isEmpty, "\(file.lastPathComponent): \(open)")
      }
    }
  }

  @Test("The suites that Scripts/test names are suites of DiTCommandTests")
  func namedSuitesExist() throws {
    let folder = Self.root.appending(path: "Tests/DiTCommandTests")
    let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    let code = try files.filter { $0.pathExtension == "swift" }.map { try String(contentsOf: $0, encoding: .utf8) }
    let suites = Set(code.flatMap { $0.matches(of: /@Suite[^\n]*\bstruct (\w+)/).map { String($0.1) } })
    let named = try Self.list("commands_at_every_level", in: Self.text("Scripts/test"))
    #expect(!named.isEmpty && named.filter { !suites.contains($0) }.isEmpty)
  }
}
