import DiTTensor
import Testing

@Suite("The one error: its subject, its line and its status")
struct DiTErrorTests {
  @Test("Every kind of subject can be asked for, and is said in the line")
  func subjects() {
    let tensor = DiTError(file: "m.safetensors", .tensor("pos_embed"), expected: "[4, 8]", found: "[4, 7]")
    #expect(tensor.file == "m.safetensors" && tensor.tensor == "pos_embed" && tensor.key == nil && tensor.option == nil)
    #expect(tensor.description == "m.safetensors: tensor pos_embed: expected [4, 8], found [4, 7]")
    #expect(
      tensor.expected == "[4, 8]" && tensor.found == "[4, 7]" && tensor.problem == "expected [4, 8], found [4, 7]")
    let key = DiTError(file: "c.json", key: "diffusion.steps", expected: "a whole number", found: "\"x\"")
    #expect(key.key == "diffusion.steps" && key.tensor == nil && key.description.hasPrefix("c.json: diffusion.steps: "))
    let unnamed = DiTError(file: "", key: "steps", problem: "is odd")
    #expect(unnamed.file == nil && unnamed.description == "steps: is odd" && unnamed.expected == nil)
    let option = DiTError(option: "eta", expected: "0…1", found: "2")
    #expect(option.option == "eta" && option.argument == nil && option.description == "eta: expected 0…1, found 2")
    let argument = DiTError(argument: "noise", expected: "finite numbers", found: "nan in image 0")
    #expect(argument.argument == "noise" && argument.option == nil)
  }

  @Test("The status is 64 for what a caller chooses, 65 for inputs, 1 for outputs, other processes and numbers")
  func statuses() {
    let statuses = Dictionary(
      uniqueKeysWithValues: DiTError.Kind.allCases.map { ($0, DiTError($0, .init(), problem: "").exitStatus) })
    #expect(
      statuses == [
        .file: 65, .content: 65, .configuration: 65, .data: 65, .option: 64, .argument: 64, .output: 1,
        .communication: 1, .numbers: 1,
      ])
  }

  @Test("Causes hold the details, and files that are missing or cannot be written are told apart")
  func causes() {
    let missing = DiTError(file: "a", .missing)
    #expect(missing.cause as? FileProblem == .missing && missing.isMissing && !missing.isTaken && missing.kind == .file)
    #expect(missing.of(.output).exitStatus == 1 && missing.of(.output).fileProblem == .missing)
    #expect(DiTError(file: "a", .pointer(bytes: 9)).description.hasSuffix("`git lfs pull` fetches the file of 9 bytes"))
    let overflow = DiTError(overflow: "samples", image: 2, found: .infinity)
    #expect(
      overflow.overflow?.image == 2 && overflow.moved(by: 3).overflow?.image == 5 && missing.moved(by: 3) == missing)
    #expect(missing.placed("at step 3") == missing && missing.mismatch == nil)
  }

  @Test("A line is one line whatever names hold, and no longer than a screen")
  func lines() {
    let error = DiTError(
      file: "a\nb\u{202e}", .entry(String(repeating: "x", count: 500)), expected: "\u{0}",
      found: String(repeating: "y", count: 9999))
    #expect(!error.description.contains("\n") && !error.description.unicodeScalars.contains("\u{202e}"))
    #expect(error.description.hasPrefix(#"a\u{a}b\u{202e}: xxx"#) && error.description.count < 1400)
    #expect(error.file == "a\nb\u{202e}" && error.found?.count == 9999, "the parts are as they are")
  }
}
