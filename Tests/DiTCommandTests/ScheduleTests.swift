import DiTImaging
import Foundation
import Testing

@Suite("dit schedule") struct ScheduleTests {
  /// The whole line of β and ᾱ, from the published constants.
  private static let betas = (0..<1000).map { 1e-4 + (0.02 - 1e-4) / 999 * Double($0) }

  private static func alphaBar(_ t: Int) -> Double { betas[...t].reduce(1) { $0 * (1 - $1) } }

  @Test("Each rule keeps the timesteps it is documented to keep")
  func keepsTheStepsOfTheRule() async throws {
    let rules: [(String, [Double])] = [
      ("leading", [0, 333, 666]), ("trailing", [332, 666, 999]), ("linspace", [0, 500, 999]),
      ("quadratic", [0, 250, 999]),
    ]
    for (rule, steps) in rules {
      let json = try await JSON(["schedule", "DiT-S/2", "--schedule", rule, "--steps", "3", "--json"])
      #expect(json.numbers("kept", "t") == steps, "\(rule)")
      #expect(json["schedule"] == .string(rule))
    }
    let custom = try await JSON(["schedule", "DiT-S/2", "--schedule", "custom:5,17,640", "--json"])
    #expect(custom.numbers("kept", "t") == [5, 17, 640])
  }

  @Test(
    "A rule keeps exactly the number of steps asked for, increasing from 0 to 999",
    arguments: ["jump:0.5", "jump", "jump:2", "quadratic"])
  func printsExactlyTheSteps(_ rule: String) async throws {
    let text = try await succeed(["schedule", "DiT-S/2", "--schedule", rule, "--steps", "50"]).stdout
    let rows = text.split(separator: "\n").dropFirst(2)
    #expect(rows.count == 50)
    let t = rows.compactMap { $0.split(separator: " ").dropFirst().first.flatMap { Int($0) } }
    #expect(t.first == 0 && t.last == 999 && zip(t, t.dropFirst()).allSatisfy { $0 < $1 }, "\(t)")
  }

  /// A flow's own grid: s = 1 − i/n, from the least noisy.
  @Test("A flow's schedule is the even grid of its times")
  func flowsHaveAnEvenGrid() async throws {
    let scratch = try Scratch()
    try FileManager.default.createDirectory(atPath: scratch.path("flow"), withIntermediateDirectories: true)
    _ = try scratch.write(#"{"learn_sigma": false, "diffusion": {"prediction": "flow"}}"#, to: "flow/config.json")
    let flow = ["schedule", scratch.path("flow"), "--steps", "4"]
    let json = try await JSON(flow + ["--json"])
    #expect(json.numbers("kept", "s") == [0.25, 0.5, 0.75, 1])
    #expect(json.numbers("kept", "t") == [249, 499, 749, 999])
    let last = try await succeed(flow).stdout.split(separator: "\n").last?.split(separator: " ").map(String.init)
    #expect(last == ["3", "999", "0.02", "4.03583e-05", "0.00635282", "250", "1"])
    try await expectFailure(flow + ["--schedule", "jump"], 64, ["--schedule", "linspace", "jump:0.5"])
    _ = try scratch.write(
      #"{"diffusion": {"path": "linear", "prediction": "velocity", "network_time": "1-s"}}"#, to: "flow/config.json")
    let reversed = try await JSON(flow + ["--json"])
    #expect(
      reversed.numbers("kept", "s") == [0.25, 0.5, 0.75, 1] && reversed.numbers("kept", "time") == [0.75, 0.5, 0.25, 0])
    let text = try await succeed(flow).stdout.split(separator: "\n")
    #expect(text[1].hasSuffix("            s         time"))
    #expect(text.last?.split(separator: " ").suffix(2).map(String.init) == ["1", "0"])
  }

  /// k(t) = ⌈√ᾱ_t · L⌉ of 256 tokens, and √β_t; nothing of it for the published attention.
  @Test("Windows and temperatures of diffusion-aware attention follow their formulas")
  func showsWindowsAndScales() async throws {
    let scratch = try Scratch()
    try FileManager.default.createDirectory(atPath: scratch.path("aware"), withIntermediateDirectories: true)
    _ = try scratch.write(
      #"{"attention": {"temperature": "sqrt_beta", "mask": "soft", "window": "signal"}}"#, to: "aware/config.json")
    let command = ["schedule", scratch.path("aware"), "--schedule", "custom:5,400"]
    let json = try await JSON(command + ["--json"])
    #expect(json.numbers("kept", "window") == [5, 400].map { (Self.alphaBar($0).squareRoot() * 256).rounded(.up) })
    for (found, t) in zip(json.numbers("kept", "scale"), [5, 400]) {
      #expect(abs(found - Self.betas[t].squareRoot()) < 1e-7)
    }
    let table = try await succeed(command).stdout
    #expect(table.contains("scale   window\n") && table.hasSuffix("     113\n"), "\(table)")
    let published = try await JSON(["schedule", "DiT-S/2", "--schedule", "custom:5,400", "--json"])
    #expect(published.numbers("kept", "window").isEmpty && published.numbers("kept", "scale").isEmpty)
  }

  @Test("Betas, alphas and strides of the kept steps are those of the published constants")
  func givesNoiseLevelsAndStrides() async throws {
    let json = try await JSON(["schedule", "DiT-S/2", "--schedule", "custom:5,17,640", "--json"])
    #expect(json.numbers("kept", "stride") == [6, 12, 623])
    for (index, t) in [5, 17, 640].enumerated() {
      let alphaBar = Self.alphaBar(t)
      let found = ["beta", "alpha_bar", "alpha"].map { json.numbers("kept", $0)[index] }
      for (a, b) in zip(found, [Self.betas[t], alphaBar, alphaBar.squareRoot()]) {
        #expect(abs(a - b) < 1e-12 * b, "t = \(t): \(found)")
      }
    }
    #expect(json["training_steps"] == .integer(1000))
  }

  @Test("The table has one row per kept step")
  func printsATable() async throws {
    let text = try await succeed(["schedule", "DiT-S/2", "--schedule", "custom:5,999"]).stdout
    let rows = text.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    #expect(rows.first == ["custom:5,999:", "2", "of", "1000", "steps"])
    #expect(rows.last == ["1", "999", "0.02", "4.03583e-05", "0.00635282", "994"])
  }

  /// Without options it is the model's own sampling block.
  @Test("Without options the model's own sampling settings are shown")
  func takesTheModelsDefaults() async throws {
    let json = try await JSON(["schedule", Model.digits, "--json"])
    #expect(json["steps"] == .integer(10))
    let stateDict = ["schedule", Model.digits + "/model.safetensors", "--json"]
    #expect(try await JSON(stateDict + ["--heads", "4"])["steps"] == .integer(50))
    try await expectFailure(stateDict, 65, ["heads"])
  }

  @Test("--out draws the schedule, with one mark per kept step")
  func drawsAPicture() async throws {
    let scratch = try Scratch()
    let few = ["schedule", "DiT-S/2", "--steps", "4", "--out", scratch.path("few.png")]
    let table = try await succeed(few).stdout
    #expect(table.hasPrefix("linspace: 4 of 1000 steps"))
    _ = try await succeed(["schedule", "DiT-S/2", "--steps", "40", "--out", scratch.path("many.png")])
    #expect(scratch.names == ["few.png", "many.png"])
    let (few4, many40) = (try picture("few.png"), try picture("many.png"))
    // Dots and stems are dark; more steps leave more of them.
    #expect(few4.channels == 3 && few4.width > 700 && few4.height > 500)
    #expect(dark(few4) > 0 && dark(many40) > 2 * dark(few4), "\(dark(few4)), \(dark(many40))")

    func picture(_ name: String) throws -> Image { try Image(contentsOf: scratch.path(name)) }
    func dark(_ image: Image) -> Int {
      // Below the labels, whose height is the same in both.
      stride(from: 0, to: image.pixels.count, by: 3).count { image.pixels[$0...$0 + 2] == [24, 28, 36] }
    }
  }

  @Test("Steps, rules and outputs that do not fit are refused by option")
  func refusesWhatDoesNotFit() async throws {
    let scratch = try Scratch()
    let schedule = ["schedule", "DiT-S/2"]
    try await expectFailure(schedule + ["--steps", "0"], 64, ["--steps", "1…1000", "0"])
    try await expectFailure(schedule + ["--steps", "1001"], 64, ["--steps", "1…1000", "1001"])
    try await expectFailure(schedule + ["--schedule", "quadratisch"], 64, ["--schedule", "quadratisch"])
    try await expectFailure(schedule + ["--schedule", "custom:7,7"], 64, ["--schedule", "7,7"])
    try await expectFailure(schedule + ["--schedule", "custom:1,1000"], 64, ["--schedule", "1000"])
    try await expectFailure(schedule + ["--out", scratch.path("plot.svg")], 64, ["--out", ".png", "plot.svg"])
    try await expectFailure(schedule + ["--out", scratch.path("none/plot.png")], 1, ["none/plot.png", "directory"])
    #expect(scratch.names.isEmpty)
  }
}
