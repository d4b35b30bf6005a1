import DiffusionTransformers
import Foundation
import Testing

/// The library example of README.md, compiled and run.
@Suite("The library example of README.md") struct ReadmeTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// The lines between the marks are the README's, indented; `print` and the model's path are this test's.
  @Test("The README's library example compiles, runs and draws two digits")
  func exampleRuns() throws {
    var printed: [String] = []
    func print(_ line: String) { printed.append(line) }
    func path(_ relative: String) -> String { Self.root.appending(path: relative).path(percentEncoded: false) }

    // README
    let digits = try DiT(contentsOf: path("Sources/dit/Resources/digits-model"))
    let sampler = Sampler(.ddim, steps: 25, schedule: .leading)
    let samples = try digits.sample(classes: [4, 2], guidance: Guidance(scale: 1.5), sampler: sampler, seed: 7)
    for (image, label) in samples.labels.enumerated() {
      print("a \(label):")
      for row in 0..<8 {
        let pixels = samples.images.elements[(image * 8 + row) * 8..<(image * 8 + row + 1) * 8]
        print(String(pixels.map { $0 > 0.3 ? "#" : $0 > -0.4 ? "+" : " " }))
      }
    }
    // end

    #expect(printed.count == 18 && printed[0] == "a 4:" && printed[9] == "a 2:")
    // Ink, and paper around it.
    for digit in [printed[1..<9], printed[10..<18]] {
      let ink = digit.joined().filter { $0 == "#" }.count
      #expect(ink >= 6 && ink <= 40, "\(ink) dark pixels of 64")
    }
  }

  @Test("The example compiled here is the README's, line by line")
  func exampleIsTheReadmes() throws {
    let readme = try String(contentsOf: Self.root.appending(path: "README.md"), encoding: .utf8)
    let source = try String(contentsOf: URL(filePath: #filePath), encoding: .utf8)
    let block = try #require(readme.components(separatedBy: "```swift\n").dropFirst().first)
    let example = try #require(block.components(separatedBy: "```").first)
      .components(separatedBy: "\n").filter { !$0.isEmpty && $0 != "import DiffusionTransformers" }
    let body = try #require(source.components(separatedBy: "    // README\n").last)
    let compiled = try #require(body.components(separatedBy: "    // end\n").first)
      .replacing("path(\"Sources/dit/Resources/digits-model\")", with: "\"Sources/dit/Resources/digits-model\"")
      .components(separatedBy: "\n").filter { !$0.isEmpty }.map { String($0.dropFirst(4)) }
    #expect(example == compiled)
  }
}
