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

  /// But for the suite whose subject is the choice itself.
  @Test("Tests that run once because they choose their levels leave no level to DIT_ISA")
  func levelsAreChosen() throws {
    for target in try Self.list("own_levels", in: Self.text("Scripts/test")) {
      let folder = Self.root.appending(path: "Tests/\(target)")
      let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
      for file in files where file.lastPathComponent != "ContextTests.swift" {
        let calls = try String(contentsOf: file, encoding: .utf8).matches(of: /ComputeContext\(([^)]*)\)/)
        let open = calls.filter {
          !$0.1.contains("instructionSet:") && !$0.1.contains("kernels:") || $0.1.contains(".supported")
        }.map { String($0.0) }
        #expect(open.isEmpty, "\(file.lastPathComponent): \(open)")
      }
    }
  }

  /// The names of all suites, and of all test targets.
  private static func suites() throws -> (suites: Set<String>, targets: Set<String>) {
    let tests = root.appending(path: "Tests")
    let files = try FileManager.default.subpathsOfDirectory(atPath: tests.path).filter { $0.hasSuffix("Tests.swift") }
    let code = try files.map { try text("Tests/\($0)") }
    let suites = code.flatMap { $0.matches(of: /@Suite[^\n]*\bstruct (\w+)/).map { String($0.1) } }
    return (Set(suites), Set(files.compactMap { $0.split(separator: "/").first.map(String.init) }))
  }

  @Test("Every suite stands in the README of the tests")
  func everySuiteIsDescribed() throws {
    let described = try Set(Self.text("Tests/README.md").matches(of: /\w+Tests/).map { String($0.0) })
    let missing = try Self.suites().suites.subtracting(described).subtracting(["ScriptTests"])
    #expect(missing.isEmpty, "not in Tests/README.md: \(missing.sorted())")
  }

  @Test("Scripts/sanitize names suites and targets that there are")
  func sanitizedSuitesExist() throws {
    let filters = try Self.text("Scripts/sanitize").matches(of: /suites='([^']*)'/).map { String($0.1) }
    let (suites, targets) = try Self.suites()
    #expect(filters.count > 1)
    for name in filters.flatMap({ $0.matches(of: /\w+Tests/) }) {
      #expect(suites.contains(String(name.0)) || targets.contains(String(name.0)), "\(name.0)")
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
