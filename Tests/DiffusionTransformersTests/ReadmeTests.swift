import DiTImaging
import DiTPictures
import DiffusionTransformers
import Foundation
import Testing

/// The library examples of README.md, compiled and run.
@Suite("The library examples of README.md") struct ReadmeTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  // The lines between the marks are the README's, indented; `print` and the paths are this test's.

  @Test("The README's first example writes a picture of two digits")
  func pictureIsWritten() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    func path(_ relative: String) -> String {
      (relative.hasSuffix(".png") ? folder : Self.root).appending(path: relative).path(percentEncoded: false)
    }

    // README 1
    let model = try DiT(contentsOf: path("Sources/dit/Resources/digits-model"))
    var options = model.samplingOptions
    options.guidance.scale = 1.5
    let samples = try model.sample(.classes([4, 2]), options: options)
    try samples.writePNG(to: path("digits.png"), for: model)
    // end

    #expect(samples.map(\.label) == [4, 2] && samples[1].image == samples.images[1])
    let picture = try Image(contentsOf: path("digits.png"))
    #expect(picture.width > 2 * 96 && picture.height > 96)
    // Ink, and paper around it.
    for sample in samples {
      let ink = sample.image.elements.count { $0 > 0.3 }
      #expect(ink >= 6 && ink <= 40, "\(ink) light pixels of 64")
    }
  }

  @Test("The README's second example draws a progress bar and ten digits")
  func progressIsDrawn() async throws {
    let printed = Lines()
    @Sendable func print(_ items: Any...) { printed.add(items.map { "\($0)" }.joined(separator: " ")) }
    @Sendable func path(_ relative: String) -> String {
      Self.root.appending(path: relative).path(percentEncoded: false)
    }

    // README 2
    let model = try DiT(contentsOf: path("Sources/dit/Resources/digits-model"))
    let drawing = Task {
      let run = model.sampling(.classes(Array(0..<10)))
      do {
        for try await step in run {
          print(String(repeating: "#", count: 40 * step.completedSteps / step.totalSteps))
        }
      } catch is CancellationError {
        print("stopped after the step at hand")
      }
      return run.finished  // the images that are done
    }
    let finished = try await drawing.value  // drawing.cancel() stops it
    print(finished?.count ?? 0, "images")
    // end

    let lines = printed.all
    #expect(lines.last == "10 images" && lines.dropLast().last == String(repeating: "#", count: 40))
    #expect(lines.count == model.samplingOptions.sampler.steps + 1)
  }

  private final class Lines: Sendable {
    private let lock = NSLock()
    nonisolated(unsafe) private var lines: [String] = []
    func add(_ line: String) { lock.withLock { unsafe lines.append(line) } }
    var all: [String] { lock.withLock { unsafe lines } }
  }

  /// From an empty package to a picture in at most 12 lines, to a progress bar that can be cancelled in at most 20.
  @Test("The examples compiled here are the README's, line by line, and short", arguments: [(1, 12), (2, 20)])
  func examplesAreTheReadmes(number: Int, most: Int) throws {
    let readme = try String(contentsOf: Self.root.appending(path: "README.md"), encoding: .utf8)
    let source = try String(contentsOf: URL(filePath: #filePath), encoding: .utf8)
    let block = readme.components(separatedBy: "```swift\n")[number].components(separatedBy: "```")[0]
    let lines = block.components(separatedBy: "\n").filter { !$0.isEmpty }
    #expect(lines.count <= most)
    let body = source.components(separatedBy: "    // README \(number)\n")[1].components(separatedBy: "    // end\n")[0]
    let compiled = body.replacing(/path\((".*?")\)/) { String($0.output.1) }
      .components(separatedBy: "\n").filter { !$0.isEmpty }.map { String($0.dropFirst(4)) }
    #expect(lines.filter { !$0.hasPrefix("import ") } == compiled)
  }
}
