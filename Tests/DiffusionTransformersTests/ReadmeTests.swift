import DiTImaging
import DiTPictures
import DiffusionTransformers
import Foundation
import Testing

/// The front pages in both languages: the example compiled and run, the commands and links held against each other and the tree.
@Suite("The front pages, README.md and README.zh-CN.md") struct ReadmeTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  static let pages = ["README.md", "README.zh-CN.md"]

  private func text(_ page: String) throws -> String {
    try String(contentsOf: Self.root.appending(path: page), encoding: .utf8)
  }

  /// The blocks of code of a language, as they stand.
  private func blocks(_ language: String, in page: String) throws -> [String] {
    try text(page).components(separatedBy: "```\(language)\n").dropFirst().map { $0.components(separatedBy: "```")[0] }
  }

  // The lines between the marks are the page's, indented; the paths are this test's.

  @Test("The example writes a picture of a shoe and a coat")
  func pictureIsWritten() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    func path(_ relative: String) -> String {
      let home = relative == "clothes" ? Self.root.appending(path: "Sources/dit/Resources/fashion-model") : nil
      return (home ?? folder.appending(path: relative)).path(percentEncoded: false)
    }

    // README
    let model = try DiT(contentsOf: path("clothes"))
    var options = model.samplingOptions
    options.seed = 7
    let samples = try model.sample(.names(["sneaker", "coat"]), options: options)
    try samples.writePNG(to: path("clothes.png"), for: model)
    // end

    #expect(samples.map(\.label) == [7, 4] && samples[1].image == samples.images[1])
    let picture = try Image(contentsOf: path("clothes.png"))
    #expect(picture.width > 2 * 96 && picture.height > 96)
    // A shoe is low and a coat is tall: the upper third is dark over the one and light over the other.
    let upper = samples.map { sample in
      let pixels = sample.image.elements.prefix(28 * 28 / 3)
      return pixels.reduce(0, +) / Float(pixels.count)
    }
    #expect(upper[0] < -0.5 && upper[1] > upper[0] + 0.3, "upper thirds \(upper)")
  }

  @Test("The example compiled here is the page's, line by line, and short", arguments: pages)
  func exampleIsThePages(page: String) throws {
    let source = try String(contentsOf: URL(filePath: #filePath), encoding: .utf8)
    let lines = try blocks("swift", in: page)[1].components(separatedBy: "\n").filter { !$0.isEmpty }
    #expect(lines.count <= 12)
    let body = source.components(separatedBy: "    // README\n")[1].components(separatedBy: "    // end\n")[0]
    let compiled = body.replacing(/path\((".*?")\)/) { String($0.output.1) }
      .components(separatedBy: "\n").filter { !$0.isEmpty }.map { String($0.dropFirst(4)) }
    #expect(lines.filter { !$0.hasPrefix("import ") } == compiled)
  }

  @Test("Both pages have the same commands and the same programs")
  func pagesAgree() throws {
    func commands(_ page: String) throws -> [String] {
      try blocks("sh", in: page).flatMap { $0.components(separatedBy: "\n") }
        .map { $0.components(separatedBy: " #")[0].trimmingCharacters(in: .whitespaces) }
    }
    let (english, chinese) = try (commands("README.md"), commands("README.zh-CN.md"))
    #expect(english == chinese && english.filter { !$0.isEmpty }.count >= 6)
    #expect(try blocks("swift", in: "README.md") == blocks("swift", in: "README.zh-CN.md"))
  }

  @Test("A page has at most 120 lines, and every link leads to a file of this tree", arguments: pages)
  func pageIsShortAndItsLinksLead(page: String) throws {
    let text = try text(page)
    #expect(text.split(separator: "\n", omittingEmptySubsequences: false).count <= 121)
    let links = text.matches(of: /(?:\]\(|src=")([^)"\s]+)[)"]/).map { String($0.output.1) }
      .filter { !$0.hasPrefix("http") }
    #expect(links.count > 15)
    for link in links {
      let file = Self.root.appending(path: link.components(separatedBy: "#")[0]).path(percentEncoded: false)
      #expect(FileManager.default.fileExists(atPath: file), "\(page): \(link)")
    }
  }
}
