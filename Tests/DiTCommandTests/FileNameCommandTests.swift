import DiTFiles
import DiTImaging
import Foundation
import Testing

/// Paths on the command line and in folders are any bytes; what is printed is text.
@Suite("Names of files that are not UTF-8, on the command line") struct FileNameCommandTests {
  let scratch: Scratch
  /// café in Latin-1, as the shell makes it.
  private static let preamble = "cd \"$DIR\" && latin=$(printf 'caf\\351') && "

  init() throws {
    scratch = try Scratch()
    _ = try scratch.write(
      """
      { "model": { "input_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2 },
        "training": { "steps": 2, "batch": 4, "validation_modulus": 0, "sample_every": 0 }, "sampling": { "steps": 2 } }
      """, to: "config.json")
  }

  private func run(_ script: String) async throws -> Tool.Result {
    try await Tool.script(Self.preamble + script, in: scratch)
  }

  private func pictures(_ folders: [String]) throws {
    for (k, folder) in folders.enumerated() {
      let path = scratch.path("") + "/data/" + folder
      try Directory.create(path)
      for n in 0..<3 {
        let pixels = (0..<72).map { UInt8(($0 * (3 + n) + 40 * k) % 256) }
        try Image(width: 9, height: 8, channels: 1, pixels: pixels).writePNG(to: "\(path)/\(n).png")
      }
    }
  }

  private static let latin = FileName.string(of: [0x63, 0x61, 0x66, 0xE9])

  @Test("DATA, --out and MODEL are paths of any bytes; the class is named as it is shown")
  func paths() async throws {
    try pictures([Self.latin, "zoo"])
    let trained = try await run(
      """
      mv data "data-$latin" && "$DIT" train --data "data-$latin" --out "run-$latin" --config config.json &&
      "$DIT" sample --model "run-$latin" --classes "$latin" --count 2 --guidance 1 --out "$latin.npz" &&
      "$DIT" sample --model "run-$latin" --classes 'caf\\xe9' --count 2 --guidance 1 --out second.npz &&
      cmp "$latin.npz" second.npz && "$DIT" convert "run-$latin" "copy-$latin" &&
      "$DIT" evaluate --samples "$latin.npz" --reference "data-$latin" --measures frechet --json > report.json &&
      grep -c 'class_names.*caf\\\\\\\\xe9' "copy-$latin/config.json"
      """)
    #expect(trained.status == 0, "\(trained.stderr)")
    #expect(String(validating: try scratch.bytes("stdout"), as: UTF8.self) != nil)
    #expect(trained.stdout.contains(#"run-caf\xe9: 2 steps"#) && trained.stdout.contains(#"caf\xe9.npz: 2 images"#))
    let report = try JSONValue(parsing: Array(scratch.bytes("report.json")), file: "report.json")
    guard case .object(let members) = report,
      case .object(let samples)? = members.first(where: { $0.key == "samples" })?.value
    else {
      Issue.record("no report: \(report)")
      return
    }
    #expect(samples.first { $0.key == "name" }?.value == .string(#"caf\xe9.npz"#))
  }

  @Test("Errors show such names escaped, on one line of UTF-8")
  func errors() async throws {
    for (command, status, line) in [
      (#"sample --model "$latin" --out x.png"#, 65, #"Error: caf\xe9: no such file"#),
      (#"sample --out "$latin/x.png""#, 1, #"Error: caf\xe9/x.png: cannot be written: there is no such directory"#),
      (#"train --data "$latin" --out run"#, 64, #"found caf\xe9"#),
      (#"evaluate --samples "$latin.npz" --reference digits"#, 65, #"Error: caf\xe9.npz: no such file"#),
    ] as [(String, Int32, String)] {
      let result = try await run("\"$DIT\" \(command)")
      #expect(result.status == status && result.error.contains(line), "\(command): \(result.status) \(result.stderr)")
      #expect(String(validating: try scratch.bytes("stderr"), as: UTF8.self) != nil)
    }
  }

  @Test("Folders that differ by their normal form are two classes, which --classes tells apart by number")
  func normalForms() async throws {
    try pictures(["caf\u{e9}", "cafe\u{301}", "zoo"])
    let result = try await run(
      """
      "$DIT" train --data data --out run --config config.json &&
      "$DIT" sample --model run --classes 0,1 --guidance 1 --out two.png
      """)
    #expect(result.status == 0, "\(result.stderr)")
    try await expectFailure(
      [
        "sample", "--model", scratch.path("run"), "--classes", "caf\u{e9}", "--guidance", "1", "--out",
        scratch.path("x.png"),
      ], 64, [#"classes 0 "cafe\u{301}", 1 "caf\u{e9}" have that name"#])
  }

  /// Exif's orientation counts wherever pictures are read, in every format.
  @Test("Pictures that say how they lie are turned alike, whatever their format")
  func orientations() async throws {
    let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures")
    let upright = try Image(contentsOf: fixtures.appending(path: "imaging/exif_6.png").path)
    try Directory.create(scratch.path("") + "/turned/a")
    try Directory.create(scratch.path("") + "/upright/a")
    for n in 0..<3 {
      try FileManager.default.copyItem(
        at: fixtures.appending(path: "imaging/exif_6.png"), to: scratch.url.appending(path: "turned/a/\(n).png"))
      try upright.writePNG(to: scratch.path("upright/a/\(n).png"))
    }
    let result = try await run(
      #""$DIT" evaluate --samples turned --reference upright --training upright --size 9x5 --measures copies"#)
    #expect(result.status == 0 && result.stdout.contains("3 exact"), "\(result.stdout) \(result.stderr)")
  }
}
