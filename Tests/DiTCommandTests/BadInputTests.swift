import DiTFiles
import DiTTensor
import Foundation
import TestSupport
import Testing

/// Whatever is wrong: one line that names it, the status of its kind, and nothing left behind.
@Suite("Wrong input: one line that names it, the exit status of its kind, nothing left behind") struct BadInputTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func expectNothing(_ arguments: [String], _ status: Int32, _ words: [String]) async throws {
    let before = scratch.names
    try await expectFailure(arguments, status, words)
    #expect(scratch.names == before, "\(arguments)")
  }

  private func sample(_ arguments: String..., out: String = "x.png") -> [String] {
    ["sample", "--model", Model.digits, "--out", scratch.path(out)] + arguments
  }

  // MARK: 64

  @Test("Option values that no model takes exit with 64 and name the option and the value")
  func valuesThatNoModelTakes() async throws {
    try await expectNothing(sample("--count", "0"), 64, ["--count", "0"])
    try await expectNothing(sample("--count", "99999999999"), 64, ["--count", "99999999999"])
    try await expectNothing(sample("--steps", "many"), 64, ["--steps", "many"])
    try await expectNothing(sample("--seed=-1"), 64, ["--seed", "-1"])
    try await expectNothing(sample("--sampler", "rk45"), 64, ["--sampler", "rk45"])
    try await expectNothing(sample("--guidance", "nan"), 64, ["--guidance", "nan"])
    try await expectNothing(sample("--guidance", "inf"), 64, ["--guidance", "inf"])
    try await expectNothing(sample("--eta", "nan"), 64, ["--eta", "nan"])
    try await expectNothing(sample("--eta", "1.5"), 64, ["--eta", "1.5"])
    try await expectNothing(sample("--guidance-interval", "9,2"), 64, ["--guidance-interval", "9,2"])
    try await expectNothing(sample("--guidance-interval", "9"), 64, ["--guidance-interval", "9"])
    try await expectNothing(
      sample("--precision", "fp16"), 64, ["--precision", "fp32, bf16 or int8", "no products of fp16", "found fp16"])
    try await expectNothing(sample("--precision", "int4"), 64, ["--precision", "fp32, bf16 or int8", "int4"])
    try await expectNothing(sample("--gemm", "mkl"), 64, ["--gemm", "blas, packed or auto", "mkl"])
    try await expectNothing(sample("--gemm", "blas", "--precision", "bf16"), 64, ["--gemm", "OpenBLAS", "blas"])
    try await expectNothing(sample("--frobnicate"), 64, ["--frobnicate"])
    try await expectNothing(["sample", "--model", Model.digits], 64, ["--out"])
    try await expectNothing(["simple"], 64, ["simple"])
  }

  @Test("Option values out of this model's range exit with 64 and name the range")
  func valuesThatThisModelCannotTake() async throws {
    try await expectNothing(sample("--classes", "10"), 64, ["--classes", "0…9", "10"])
    try await expectNothing(sample("--classes", "8-12"), 64, ["--classes", "0…9", "8-12"])
    try await expectNothing(sample("--classes", "5-3"), 64, ["--classes", "5-3"])
    try await expectNothing(sample("--classes", "3,,4"), 64, ["--classes", "''"])
    try await expectNothing(sample("--classes", "cat"), 64, ["--classes", "cat"])
    try await expectNothing(sample("--classes=-1"), 64, ["--classes", "-1"])
    try await expectNothing(sample("--steps", "0"), 64, ["--steps", "1…1000", "0"])
    try await expectNothing(sample("--steps", "1001"), 64, ["--steps", "1…1000", "1001"])
    try await expectNothing(sample("--steps", "2", "--schedule", "custom:1,2,3"), 64, ["--steps", "3", "2"])
    try await expectNothing(sample("--schedule", "custom:1,1000"), 64, ["--schedule", "0…999", "1000"])
    try await expectNothing(sample("--sampler", "ddpm", "--eta", "0.5"), 64, ["--eta", "ddpm"])
    try await expectNothing(sample("--guidance-channels", "2"), 64, ["--guidance-channels", "1…1", "2"])
    let out = scratch.path("x.safetensors")
    try await expectNothing(
      ["sample", "--model", Model.noNull, "--guidance", "2", "--out", out], 64, ["--guidance", "1", "2"])
    try await expectNothing(
      ["sample", "--model", Model.unconditional, "--classes", "0", "--out", out], 64, ["--classes", "unconditional"])
  }

  @Test("Outputs of an ending or a shape that cannot be written exit with 64")
  func outputsOfTheWrongKind() async throws {
    try await expectNothing(sample(out: "x.jpg"), 64, ["--out", ".png, .safetensors, .npz", "x.jpg"])
    try await expectNothing(sample(out: "png"), 64, ["--out", "png"])
    try await expectNothing(sample(out: "x\ny.gif"), 64, ["--out", "y.gif"])  // still one line
    try await expectNothing(sample(out: ".png/x"), 64, ["--out", "/x"])
    try await expectNothing(sample("--trajectory", scratch.path("t.npz")), 64, ["--trajectory", "t.npz"])
    try await expectNothing(sample("--trajectory", scratch.path("x.png")), 64, ["--trajectory", "x.png"])
    for ending in ["png", "npz"] {
      let out = scratch.path("x.\(ending)")
      try await expectNothing(["sample", "--model", Model.latent, "--out", out], 64, [".safetensors", "4 channels"])
    }
    let input = Fixture.path("digits/forward.safetensors")
    for command in ["forward", "loss", "invert"] {
      try await expectNothing(
        [command, "--model", Model.digits, "--input", input, "--out", scratch.path("x.png")], 64, ["--out", ".png"])
    }
  }

  // MARK: 1

  @Test("Outputs in missing directories or over directories exit with 1 and name the path")
  func outputsThatCannotBeWritten() async throws {
    try await expectNothing(sample(out: "none/x.png"), 1, ["none/x.png", "directory"])
    try FileManager.default.createDirectory(atPath: scratch.path("d.png"), withIntermediateDirectories: true)
    try await expectNothing(sample(out: "d.png"), 1, ["d.png", "a directory"])
    try await expectNothing(sample("--trajectory", scratch.path("none/t.png")), 1, ["none/t.png"])
    let files = [("forward", "forward"), ("loss", "loss")]
    for (command, file) in files {
      try await expectNothing(
        [
          command, "--model", Model.digits, "--input", Fixture.path("digits/\(file).safetensors"), "--out",
          scratch.path("none/x.safetensors"),
        ], 1, ["none/x.safetensors"])
    }
  }

  // MARK: 65

  @Test("Paths and files that are no models exit with 65 and name the path")
  func pathsThatAreNoModels() async throws {
    let out = ["--out", scratch.path("x.png")]
    try await expectNothing(["sample", "--model", "/nowhere"] + out, 65, ["/nowhere", "no such file"])
    try await expectNothing(["sample", "--model", "DiT-S/2"] + out, 65, ["DiT-S/2", "weights"])
    try await expectNothing(["sample", "--model", scratch.path("")] + out, 65, ["found no config.json"])
    let text = try scratch.write("not a safetensors file", to: "text.safetensors")
    try await expectNothing(["info", text], 65, ["text.safetensors", "header"])
    try await expectNothing(["schedule", scratch.path("")], 65, ["config.json"])
  }

  @Test("Broken weights and configurations exit with 65 and name the file and the key or tensor")
  func modelDirectoriesThatAreBroken() async throws {
    let config = try String(contentsOfFile: Model.digits + "/config.json", encoding: .utf8)
    let weights = try Data(contentsOf: URL(filePath: Model.digits + "/model.safetensors"))
    let command = ["sample", "--model", scratch.path(""), "--out", scratch.path("x.png")]
    func expect(_ config: String, _ weights: Data?, _ words: [String]) async throws {
      _ = try scratch.write(config, to: "config.json")
      try weights?.write(to: scratch.url.appending(path: "model.safetensors"))
      try await expectNothing(command, 65, words)
    }
    try await expect(config, nil, ["model.safetensors", "no such file"])
    try await expect(config, weights.dropLast(7), ["model.safetensors", "cut off"])
    try await expect(config, weights + Data([0]), ["model.safetensors", "belong to no tensor"])
    try await expect(String(config.dropLast(20)), weights, ["config.json", "line"])
    try await expect(
      config.replacing("\"depth\": 2", with: "\"dept\": 2"), weights, ["config.json", "dept", "unknown key"])
    try await expect(
      config.replacing("\"depth\": 2", with: "\"depth\": \"two\""), weights, ["config.json", "depth", "\"two\""])
    try await expect(
      config.replacing("\"num_heads\": 4", with: "\"num_heads\": 5"), weights, ["config.json", "num_heads", "5"])
    try await expect(
      config.replacing("\"depth\": 2", with: "\"depth\": 3"), weights, ["10 tensors missing", "blocks.2"])
    try await expect(
      config.replacing("\"num_classes\": 10", with: "\"num_classes\": 11"), weights,
      ["model.safetensors", "y_embedder", "[12, 32]", "[11, 32]"])
  }

  @Test("Tensors of dit forward's input that are missing or do not fit exit with 65 and are named")
  func inputsThatDoNotFit() async throws {
    let x = TensorSource("x", Tensor(zeros: [2, 1, 8, 8]))
    let (t, y) = (TensorSource("t", labels: [0, 999]), TensorSource("y", labels: [3, 10]))
    let cases: [(String, [TensorSource], [String])] = [
      ("no x", [t, y], ["tensor x"]),
      ("no t", [x, y], ["tensor t"]),
      ("no y", [x, t], ["tensor y"]),
      ("rank", [TensorSource("x", Tensor(zeros: [2, 64])), t, y], ["tensor x", "(N, C, H, W)", "[2, 64]"]),
      ("size", [TensorSource("x", Tensor(zeros: [2, 1, 8, 4])), t, y], ["tensor x", "[N, 1, 8, 8]", "[2, 1, 8, 4]"]),
      ("none", [TensorSource("x", Tensor(zeros: [0, 1, 8, 8])), t, y], ["tensor x", "[0, 1, 8, 8]"]),
      (
        "dtype", [TensorSource("x", shape: [2, 1, 8, 8], integers: [Int](repeating: 0, count: 128)), t, y],
        ["tensor x", "I64"]
      ),
      ("t late", [x, TensorSource("t", labels: [0, 1000]), y], ["tensor t", "0…999", "1000"]),
      ("t count", [x, TensorSource("t", labels: [0]), y], ["tensor t", "2", "1"]),
      ("t rank", [x, TensorSource("t", shape: [2, 1], integers: [0, 1]), y], ["tensor t", "(N)", "[2, 1]"]),
      ("t NaN", [x, TensorSource("t", Tensor(shape: [2], elements: [0, .nan])), y], ["tensor t", "nan"]),
      ("y high", [x, t, TensorSource("y", labels: [3, 11])], ["tensor y", "0…10", "11"]),
      ("y low", [x, t, TensorSource("y", labels: [3, -1])], ["tensor y", "0…10", "-1"]),
      ("y half", [x, t, TensorSource("y", Tensor(shape: [2], elements: [3, 0.5]))], ["tensor y", "0.5"]),
    ]
    for (name, tensors, words) in cases {
      let input = try scratch.write(tensors, to: "in.safetensors")
      try await expectNothing(
        ["forward", "--model", Model.digits, "--input", input, "--out", scratch.path("x.safetensors")], 65,
        ["in.safetensors"] + words)
      _ = name
    }
    try await expectNothing(
      ["forward", "--model", Model.digits, "--input", scratch.path("no.safetensors"), "--out"]
        + [scratch.path("x.safetensors")], 65, ["no.safetensors", "no such file"])
  }

  @Test("Tensors of dit loss' input that are missing or do not fit exit with 65 and are named")
  func lossesThatDoNotFit() async throws {
    let x0 = TensorSource("x0", Tensor(zeros: [1, 1, 8, 8]))
    let noise = TensorSource("noise", Tensor(zeros: [1, 1, 8, 8]))
    let (t, y) = (TensorSource("t", labels: [5]), TensorSource("y", labels: [3]))
    let cases: [([TensorSource], [String])] = [
      ([noise, t, y], ["tensor x0"]), ([x0, t, y], ["tensor noise"]), ([x0, noise, y], ["tensor t"]),
      ([x0, noise, t], ["tensor y"]),
      ([x0, TensorSource("noise", Tensor(zeros: [1, 1, 8, 4])), t, y], ["tensor noise", "[1, 1, 8, 4]"]),
      ([x0, noise, TensorSource("t", Tensor(shape: [1], elements: [0.5])), y], ["tensor t", "0.5"]),
      ([x0, noise, TensorSource("t", labels: [-1]), y], ["tensor t", "-1"]),
    ]
    for (tensors, words) in cases {
      let input = try scratch.write(tensors, to: "in.safetensors")
      for out in [[], ["--out", scratch.path("x.safetensors")]] {
        try await expectNothing(
          ["loss", "--model", Model.digits, "--input", input] + out, 65, ["in.safetensors"] + words)
      }
    }
  }

  @Test("Start noise that does not fit the model, the labels or the options is refused")
  func noiseThatDoesNotFit() async throws {
    func noise(_ shape: [Int], _ labels: [Int]?) throws -> String {
      try scratch.write(
        [TensorSource("noise", Tensor(zeros: shape))] + (labels.map { [TensorSource("labels", labels: $0)] } ?? []),
        to: "noise.safetensors")
    }
    let labeled = try noise([2, 1, 8, 8], [3, 4])
    try await expectNothing(sample("--noise", labeled, "--classes", "3,4"), 64, ["--classes", "has labels"])
    try await expectNothing(sample("--noise", labeled, "--count", "1"), 64, ["--count", "has labels"])
    try await expectNothing(
      sample("--noise", try noise([3, 1, 8, 8], [3, 4])), 65, ["noise.safetensors", "tensor noise", "[3, 1, 8, 8]"])
    try await expectNothing(
      sample("--noise", try noise([2, 1, 8, 9], [3, 4])), 65, ["noise.safetensors", "tensor noise", "[2, 1, 8, 9]"])
    try await expectNothing(
      sample("--noise", try noise([2, 1, 8, 8], [3, 12])), 65, ["noise.safetensors", "tensor labels", "12"])
    try await expectNothing(
      sample("--noise", try noise([2, 1, 8, 8], nil)), 65, ["noise.safetensors", "tensor noise", "10 images"])
    try await expectNothing(
      sample("--noise", try noise([3, 1, 8, 8], nil), "--classes", "1,2"), 65, ["tensor noise", "2 images"])
    let other = try scratch.write([TensorSource("start", Tensor(zeros: [1, 1, 8, 8]))], to: "other.safetensors")
    try await expectNothing(sample("--noise", other), 65, ["other.safetensors", "tensor noise"])
  }

  /// `DIT_ISA` is part of what was asked for.
  @Test("An unknown DIT_ISA exits with 64")
  func unknownInstructionSets() async throws {
    let result = try await Tool.run(["info"], environment: ["DIT_ISA": "mmx"])
    #expect(result.status == 64 && result.error.contains("DIT_ISA=mmx"), "\(result.stderr)")
  }
}
