import DiffusionTransformers
import Foundation
import Testing

/// What `import DiffusionTransformers` brings into a program's scope.
@Suite("The front door: what the umbrella exports") struct ExportTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// Each name by itself: a module would bring all of its own.
  @Test("At most fifty names, each exported by itself")
  func exportsAreCurated() throws {
    let file = Self.root.appending(path: "Sources/DiffusionTransformers/DiffusionTransformers.swift")
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

  @Test("The guide to errors and settings: what is thrown is told apart, a request is laid over a model's own options")
  func errorsAndSettings() throws {
    struct Job: Codable {
      var name: String
      var options: SamplingOptions
    }
    func status(_ body: () throws -> Void) -> (kind: DiTError.Kind, status: Int32, cause: FileProblem?)? {
      do {
        try body()
      } catch let error as DiTError {
        return (error.kind, error.exitStatus, error.cause as? FileProblem)
      } catch {}
      return nil
    }
    let model = try DiT(contentsOf: Self.root.appending(path: "Sources/dit/Resources/digits-model"))
    let missing = try #require(status { _ = try DiT(contentsOf: "/nowhere/dit-xl") })
    #expect(missing == (.file, 65, .missing))
    let unknown = try #require(status { _ = try model.sample(.names(["tench"])) })
    #expect(unknown.kind == .argument && unknown.status == 64 && unknown.cause == nil)

    let data = Data(#"[{"name": "a", "options": {"sampler": "ddim", "steps": 4, "guidance": 2, "stepz": 1}}]"#.utf8)
    let error = #expect(throws: DiTError.self) { try JSONDecoder().decode([Job].self, from: data) }
    #expect(
      error?.description.hasPrefix("0.options.stepz: expected one of the keys ") == true, "\(String(describing: error))"
    )
    var options = model.samplingOptions
    try options.update(json: #"{"steps": 3, "guidance": 1, "seed": 7}"#.utf8)
    #expect(try model.sample(.classes([7]), options: options).count == 1)
    #expect(options.sampler.name == model.samplingOptions.sampler.name && options.seed == 7)
  }
}
