import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

/// What a command says and leaves when its results cannot be written.
@Suite("Outputs that cannot be written") struct OutputFailureTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// Every command that prints, with inputs made in `scratch`.
  private func printing() async throws -> [[String]] {
    let (shape, digits) = ([2, 1, 8, 8], ["--model", Model.digits])
    let tensors = try scratch.write(
      ["x0", "noise", "images"].map { TensorSource($0, Tensor(zeros: shape)) } + [
        TensorSource("t", labels: [3, 4]), TensorSource("y", labels: [3, 4]), TensorSource("labels", labels: [3, 4]),
      ], to: "in.safetensors")
    let fixture = try AutoencoderFixture("tiny")
    try fixture.write(to: scratch.url.appending(path: "vae"))
    let vae = ["--model", scratch.path("vae")]
    let pixels = try scratch.write(
      [TensorSource("images", try fixture.file.tensor("0.images"))], to: "images.safetensors")
    let latents = try scratch.write(
      [TensorSource("latents", try fixture.file.tensor("0.latents"))], to: "latents.safetensors")
    let evaluate = ["evaluate", "--samples", "digits:train", "--reference", "digits:test", "--measures", "frechet"]
    return [
      ["--help"], ["help", "sample"], ["train", "--help"], ["--generate-completion-script", "bash"],
      ["info"], ["info", Model.digits], ["info", "--json"], ["info", "--json", Model.digits],
      ["schedule"], ["schedule", "--json"], ["schedule", "--out", scratch.path("s.png")],
      ["sample", "--classes", "1", "--steps", "1", "--out", scratch.path("x.png")] + digits,
      ["invert", "--input", tensors, "--steps", "1", "--out", scratch.path("i.safetensors")] + digits,
      ["loss", "--input", tensors] + digits,
      ["loss", "--input", tensors, "--out", scratch.path("g.safetensors")] + digits,
      ["encode"] + vae + [pixels, scratch.path("z.safetensors")],
      ["decode"] + vae + [latents, scratch.path("d.png")],
      evaluate, evaluate + ["--json"], evaluate + ["--out", scratch.path("e.json")],
      ["convert", Model.digits, scratch.path("converted")],
      [
        "train", "--data", "digits", "--from", Model.digits, "--steps", "1", "--batch", "2", "--out",
        scratch.path("run"),
      ],
    ]
  }

  @Test("Every command that prints exits with 1 and one line where stdout is full, and has written its files")
  func fullStandardOutput() async throws {
    for arguments in try await printing() {
      let result = try await Tool.shell(#"exec "$0" "$@" > /dev/full"#, arguments)
      #expect(
        result.status == 1
          && result.stderr == "Error: standard output: cannot write: No space left on device\n",
        "\(arguments): \(result.status), \(result.stderr)")
    }
    for name in ["s.png", "x.png", "i.safetensors", "g.safetensors", "z.safetensors", "d.png", "e.json", "converted"] {
      #expect(scratch.exists(name), "\(name)")
    }
    #expect(scratch.exists("run/model.safetensors"))
  }

  @Test("A stdout that is closed is an error too, and no file takes its place")
  func closedStandardOutput() async throws {
    let png = scratch.path("s.png")
    let result = try await Tool.shell(#"exec "$0" "$@" >&-"#, ["schedule", "--out", png])
    #expect(result.status == 1, "\(result)")
    #expect(result.stderr == "Error: standard output: cannot write: Bad file descriptor\n", "\(result.stderr)")
    _ = try await succeed(["schedule", "--out", scratch.path("whole.png")])
    #expect(try scratch.bytes("s.png") == scratch.bytes("whole.png"))
    for closed in ["0<&-", "2>&-", "0<&- 2>&-"] {
      let result = try await Tool.shell(#"exec "$0" "$@" "# + closed, ["schedule", "--steps", "2"])
      #expect(result.status == 0 && result.stdout.contains("2 of 1000 steps"), "\(closed): \(result)")
    }
  }

  /// More than a pipe holds, so that the reader's end is met however late it comes.
  @Test("A reader that has seen enough is no error to speak of")
  func closedPipe() async throws {
    for (trap, status) in [("", "141"), ("trap '' PIPE; ", "1")] {
      let result = try await Tool.shell(
        trap + #"{ "$0" "$@"; echo $? >&2; } | head -c 1"#, ["schedule", "--steps", "1000", "--json"])
      #expect(result.stdout == "{" && result.stderr == "\(status)\n", "\(result)")
    }
  }

  @Test("A stderr that takes nothing changes neither the exit status nor the result")
  func fullStandardError() async throws {
    for target in ["/dev/full", "&-"] {
      let usage = try await Tool.shell(#"exec "$0" "$@" 2>"# + target, ["sample", "--classes", "99", "--out", "x.png"])
      #expect(usage.status == 64 && usage.stdout.isEmpty, "\(target): \(usage)")
      let parser = try await Tool.shell(#"exec "$0" "$@" 2>"# + target, ["sample", "--nonsense"])
      #expect(parser.status == 64, "\(target): \(parser)")
      let noted = try await Tool.shell(
        #"exec "$0" "$@" 2>"# + target, ["sample", "--classes", "1", "--steps", "1", "--out", scratch.path("x.png")])
      #expect(noted.status == 0 && scratch.exists("x.png"), "\(target): \(noted)")
    }
  }

  /// `ulimit -f` stands for a full disk: the write fails, once the signal that would end the process is ignored.
  @Test("A file that may not grow so large is an error with its name, and the old one stays whole")
  func sizeLimit() async throws {
    let (shape, digits) = ([60, 1, 8, 8], ["--model", Model.digits])
    let tensors = try scratch.write(
      ["x", "x0", "noise", "images"].map { TensorSource($0, Tensor(zeros: shape)) } + [
        TensorSource("t", labels: [Int](repeating: 3, count: 60)),
        TensorSource("y", labels: [Int](repeating: 3, count: 60)),
      ], to: "in.safetensors")
    let fixture = try AutoencoderFixture("tiny")
    try fixture.write(to: scratch.url.appending(path: "vae"))
    let vae = ["--model", scratch.path("vae")]
    let image = try fixture.file.tensor("0.images")
    let pixels = try scratch.write(
      [
        TensorSource(
          "images",
          Tensor(shape: [8] + image.shape.dropFirst(), elements: [Float](repeating: 0.5, count: 4 * image.count)))
      ],
      to: "images.safetensors")
    let latent = try fixture.file.tensor("0.latents")
    let latents = try scratch.write(
      [
        TensorSource(
          "latents",
          Tensor(shape: [16] + latent.shape.dropFirst(), elements: [Float](repeating: 0.5, count: 8 * latent.count)))
      ],
      to: "latents.safetensors")
    let sample = ["sample", "--count", "20", "--steps", "2"] + digits
    let cases: [(arguments: [String], file: String)] = [
      (sample + ["--out", scratch.path("a.safetensors")], "a.safetensors"),
      (sample + ["--out", scratch.path("a.npz")], "a.npz"),
      (sample + ["--out", scratch.path("a.png")], "a.png"),
      (sample + ["--trajectory", scratch.path("t.safetensors"), "--out", scratch.path("y.png")], "y.png"),
      (["forward", "--input", tensors, "--out", scratch.path("f.safetensors")] + digits, "f.safetensors"),
      (
        ["invert", "--input", tensors, "--steps", "1", "--out", scratch.path("i.safetensors")] + digits, "i.safetensors"
      ),
      (["loss", "--input", tensors, "--out", scratch.path("g.safetensors")] + digits, "g.safetensors"),
      (["encode"] + vae + [pixels, scratch.path("z.safetensors")], "z.safetensors"),
      (["decode"] + vae + [latents, scratch.path("d.safetensors")], "d.safetensors"),
      (["decode"] + vae + [latents, scratch.path("d.npz")], "d.npz"),
      (["schedule", "--out", scratch.path("s.png")], "s.png"),
      (["evaluate", "--reference", "digits:test", "--save-statistics", scratch.path("e.npz")], "e.npz"),
    ]
    for (_, file) in cases { _ = try scratch.write("old", to: file) }
    let names = scratch.names
    for (arguments, file) in cases {
      let result = try await Tool.shell(#"ulimit -f 1; exec "$0" "$@""#, arguments)
      #expect(
        result.status == 1 && result.error.hasPrefix("Error: ") && result.error.contains(file)
          && result.error.contains("File too large") && result.stdout.isEmpty,
        "\(file): \(result.status), \(result.stderr)")
      #expect(scratch.text(file) == "old", "\(file)")
    }
    #expect(scratch.names == names, "\(scratch.names)")
    let result = try await Tool.shell(
      #"ulimit -f 1; exec "$0" "$@""#, ["convert", Model.digits, scratch.path("new/converted")])
    #expect(result.status == 1 && result.error.contains("new/converted/model.safetensors: cannot write"), "\(result)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path("new")).isEmpty)
  }

  @Test("A preview that cannot be written is a warning: the samples are there")
  func previewOverTheLimit() async throws {
    let result = try await Tool.shell(
      #"ulimit -f 4; exec "$0" "$@""#,
      [
        "sample", "--model", Model.digits, "--count", "100", "--steps", "1", "--preview", scratch.path("p.png"),
        "--out",
        scratch.path("x.png"), "--classes", "1",
      ])
    // Either is too large for the limit, or neither: then the command has simply worked.
    #expect([0, 1].contains(result.status), "\(result)")
    #expect(!scratch.names.contains { $0.hasPrefix(".dit-") })
  }

  @Test("What a killed process left goes with the next file that is written there")
  func leftovers() async throws {
    _ = try scratch.write("half", to: ".dit-0123456789abcdef.tmp")
    _ = try scratch.write("mine", to: ".dit-notes")
    _ = try await succeed(["schedule", "--out", scratch.path("s.png")])
    #expect(scratch.names == [".dit-notes", "s.png"])
  }

  // MARK: Values below zero

  @Test("A guidance below zero is a value, joined by = or not")
  func negativeGuidance() async throws {
    for (name, guidance) in [
      ("apart", ["--guidance", "-1"]), ("joined", ["--guidance=-1"]), ("plus", ["--guidance", "1"]),
    ] {
      _ = try await succeed(
        [
          "sample", "--model", Model.digits, "--classes", "1", "--steps", "2", "--out",
          scratch.path("\(name).safetensors"),
        ]
          + guidance)
    }
    let files = try ["apart", "joined", "plus"].map { try scratch.tensors("\($0).safetensors").floats("samples") }
    #expect(files[0] == files[1] && files[0] != files[2])
    let metadata = try scratch.tensors("apart.safetensors").metadata
    #expect(metadata["Guidance"] == "-1.0")
  }

  @Test("Every numeric option says what it expects of a value below zero, and which it found")
  func negativeValues() async throws {
    let out = ["--out", scratch.path("x.safetensors")]
    let tensors = ["--input", scratch.path("in.safetensors")]
    let train = ["train", "--data", "digits", "--out", scratch.path("run")]
    let evaluate = ["evaluate", "--samples", "digits:train", "--reference", "digits:test"]
    _ = try scratch.write(
      ["x0", "noise", "images"].map { TensorSource($0, Tensor(zeros: [1, 1, 8, 8])) } + [
        TensorSource("t", labels: [3]), TensorSource("y", labels: [3]),
      ], to: "in.safetensors")
    let cases: [(arguments: [String], option: String, value: String)] = [
      (["sample", "--sampler", "ddim"] + out, "--eta", "-1"), (["sample"] + out, "--eta", "-0.5"),
      (["sample"] + out, "--steps", "-3"),
      (["sample"] + out, "--count", "-1"), (["sample"] + out, "--seed", "-1"), (["sample"] + out, "--threads", "-2"),
      (["sample"] + out, "--guidance-channels", "-1"), (["sample"] + out, "--guidance-interval", "-5,3"),
      (["sample"] + out, "--guidance", "-inf"), (["sample"] + out, "--classes", "-1"),
      (["sample", "--model", Model.digits] + out, "--heads", "-4"), (["info"], "--threads", "-1"),
      (["schedule"], "--steps", "-1"), (["schedule"], "--heads", "-1"), (["invert"] + tensors + out, "--steps", "-1"),
      (["loss", "--loss-weighting", "min_snr"] + tensors, "--min-snr-gamma", "-1"),
      (["loss"] + tensors, "--lambda-seq", "-0.5"), (train, "--steps", "-1"), (train, "--batch", "-1"),
      (train, "--seed", "-1"), (train, "--schedule-steps", "-1"), (train, "--threads", "-1"),
      (evaluate, "--k", "-1"), (evaluate, "--density-k", "-1"), (evaluate, "--bootstrap", "-1"),
      (evaluate + ["--bootstrap", "3"], "--seed", "-1"), (evaluate, "--size", "-4"),
      (["encode", "--model", "vae", "in", "out.safetensors"], "--size", "-4"),
      (["encode", "--model", "vae", "in", "out.safetensors"], "--seed", "-4"),
    ]
    for (arguments, option, value) in cases {
      let result = try await Tool.run(arguments + [option, value])
      let name = option.dropFirst(2)
      #expect(
        result.status == 64 && result.error.hasPrefix("Error: ") && !result.error.contains("Missing")
          && result.error.contains(value)
          && (result.error.contains(name) || result.error.contains(name.replacing("-", with: " "))),
        "\(arguments) \(option) \(value): \(result.status) \(result.error)")
    }
    // What is no number is still the next option's name, and after -- nothing is joined.
    let missing = try await Tool.run(["sample", "--guidance", "--out", "x.png"])
    #expect(missing.status == 64 && missing.error.contains("guidance"), "\(missing.error)")
    let after = try await Tool.run(["info", "--", "-1"])
    #expect(after.status == 65 && after.error.contains("-1"), "\(after)")
    #expect(scratch.names == ["in.safetensors"])
  }
}
