import DiffusionTransformers
import Foundation
import Testing

/// What `import DiffusionTransformers` brings into a program's scope.
@Suite("The front door: what the umbrella exports") struct ExportTests {
  /// Each name by itself: a module would bring all of its own.
  @Test("Fifty names, each exported by itself")
  func exportsAreCurated() throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
      .appending(path: "Sources/DiffusionTransformers/DiffusionTransformers.swift")
    let lines = try String(contentsOf: file, encoding: .utf8).components(separatedBy: "\n")
      .filter { !$0.isEmpty && !$0.hasPrefix("//") }
    let names = try lines.map { line in
      let export = try #require(line.wholeMatch(of: /@_exported import (struct|class|enum) DiT\w+\.(\w+)/), "\(line)")
      return String(export.output.2)
    }
    #expect(names.count <= 50 && Set(names).count == names.count)
  }

  // A program's own types, and those of Swift and Foundation, which earlier versions shadowed.
  private struct Parameter {}
  private struct Weights {}

  @Test("Names of Swift, Foundation and the program mean what they meant")
  func nothingIsShadowed() {
    let slice: Slice<[Int]> = Slice(base: [1, 2, 3], bounds: 1..<3)
    #expect(Array(slice) == [2, 3])
    _ = (Parameter(), Weights())
    let unit: Dimension = UnitLength.meters
    #expect(unit.symbol == "m")
  }
}
