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

  @Test("Scripts/test has every test target in one of its two lists")
  func everyTargetIsInAList() throws {
    let (script, package) = try (Self.text("Scripts/test"), Self.text("Package.swift"))
    let targets = package.matches(of: /\.testTarget\(\s*name: "(\w+)"/).map { String($0.1) }
    let listed = try Self.list("every_level", in: script) + Self.list("once", in: script)
    #expect(targets.count > 10)
    #expect(listed.sorted() == targets.sorted())
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
