import DiTFiles
import Foundation
import Testing

/// `--precision int8` and `convert --dtype int8`; `--cache` and `--guidance-every`.
@Suite("int8 models and fewer evaluations from the command line") struct Int8CommandTests {
  private func samples(_ model: String, _ scratch: Scratch, _ more: [String] = []) async throws -> [Float] {
    let out = scratch.path("samples.safetensors")
    _ = try await succeed(
      ["sample", "--model", model, "--classes", "0-9", "--sampler", "ddim", "--steps", "10", "--out", out] + more)
    return try scratch.tensors("samples.safetensors").floats("samples")
  }

  private func relative(_ a: [Float], _ b: [Float]) -> Double { relativeError(a, b.map(Double.init)) }

  @Test("A model converted to int8 is smaller, says so, and samples nearly the same in every precision")
  func converted() async throws {
    let scratch = try Scratch()
    let (int8, half) = (scratch.path("int8"), scratch.path("bf16"))
    let made = try await succeed(["convert", Model.digits, int8, "--dtype", "int8"])
    #expect(made.stderr.contains("Note: int8: ") && made.stderr.contains(" measured\n"), "\(made.stderr)")
    _ = try await succeed(["convert", Model.digits, half, "--dtype", "bf16"])
    func layers(_ directory: String) throws -> Int {
      try SafetensorsFile(contentsOf: directory + "/model.safetensors").header.entries
        .filter { $0.dtype == .i8 && $0.name.hasPrefix("blocks.") }.reduce(0) { $0 + $1.byteRange.count }
    }
    let (codes, none) = (try layers(int8), try layers(half))
    #expect(codes > 0 && none == 0)
    let info = try await succeed(["info", int8]).stdout
    #expect(
      info.contains("weights       model.safetensors, ") && info.contains("I8 ")
        && info.contains("int8 makes an error of"))
    let exact = try await samples(Model.digits, scratch)
    for (model, precision, limit) in [
      (Model.digits, "int8", 0.15), (int8, "int8", 0.15), (int8, "bf16", 0.15), (int8, "fp32", 0.15),
    ] {
      let error = relative(try await samples(model, scratch, ["--precision", precision]), exact)
      #expect((1e-5...limit).contains(error), "\(model), \(precision): \(error)")
    }
    let again = scratch.path("again")
    _ = try await succeed(["convert", int8, again])
    let (a, b) = (try await samples(int8, scratch), try await samples(again, scratch))
    #expect(a == b, "what int8 says is kept exactly in fp32")
  }

  @Test("int8 is refused where it is not: in training, in other formats, beside OpenBLAS")
  func refused() async throws {
    let scratch = try Scratch()
    let out = scratch.path("out")
    try await expectFailure(
      ["train", "--data", "digits", "--precision", "int8", "--out", out], 64, ["--precision", "int8 is for inference"])
    try await expectFailure(
      ["convert", Model.digits, out, "--dtype", "int8", "--to", "diffusers"], 64, ["--dtype", "--to diffusers"])
    try await expectFailure(
      ["sample", "--model", Model.digits, "--precision", "int8", "--gemm", "blas", "--out", out + ".png"], 64,
      ["--gemm"])
  }

  @Test("An int8 file that contradicts itself is refused by its tensor's name")
  func malformed() async throws {
    let scratch = try Scratch()
    let name = "blocks.0.attn.qkv.weight"
    func check(_ words: [String], _ change: (inout [TensorSource]) -> Void) async throws {
      let model = scratch.path("model")
      try? FileManager.default.removeItem(atPath: model)
      try FileManager.default.createDirectory(atPath: model, withIntermediateDirectories: true)
      try FileManager.default.copyItem(atPath: Model.digits + "/config.json", toPath: model + "/config.json")
      let file = try SafetensorsFile(contentsOf: Model.digits + "/model.safetensors")
      var tensors = try file.names.filter { $0 != name }.map { TensorSource($0, try file.tensor($0)) }
      change(&tensors)
      try SafetensorsWriter.write(tensors, to: model + "/model.safetensors")
      try await expectFailure(["sample", "--model", model, "--out", scratch.path("x.png")], 65, words)
    }
    let shape = try SafetensorsFile(contentsOf: Model.digits + "/model.safetensors").requireEntry(named: name).shape
    let codes = [Int8](repeating: 1, count: shape[0] * shape[1])
    func sources(_ scales: [Float]) -> [TensorSource] {
      Int8Tensors.sources(name, outputs: shape[0], inputs: shape[1], scales: scales) { codes }
    }
    let scales = [Float](repeating: 0.01, count: shape[0])
    try await check([name + "_scale"]) { $0.append(sources(scales)[0]) }
    try await check([name + "_scale", "finite scales", "nan"]) { $0 += sources([.nan] + scales.dropFirst()) }
    try await check([name + "_scale", "a scale for each"]) { tensors in
      tensors.append(sources(scales)[0])
      tensors.append(TensorSource(name + "_scale", shape: [1], doubles: [1]))
    }
  }

  @Test("A cache says its memory, is kept in the picture's text, and forecasts; it is refused where steps are not even")
  func cache() async throws {
    let scratch = try Scratch()
    let picture = scratch.path("some.png")
    let made = try await succeed(
      [
        "sample", "--model", Model.digits, "--classes", "3", "--sampler", "ddim", "--steps", "12", "--cache",
        "taylor:3",
        "--out", picture,
      ])
    #expect(made.stderr.hasPrefix("cache taylor:3,2: 1 MB\n"), "\(made.stderr)")
    let text = String(decoding: try Data(contentsOf: URL(filePath: picture)), as: UTF8.self)
    #expect(text.contains("taylor:3,2"))
    let exact = try await samples(Model.digits, scratch)
    for more in [["--cache", "taylor:2,1"], ["--cache", "lite:2,0"], ["--guidance-every", "2"]] {
      let found = try await samples(Model.digits, scratch, more)
      let error = relative(found, exact)
      #expect(error > 1e-4 && found.allSatisfy { $0.isFinite }, "\(more): \(error)")
    }
    let same = try await samples(Model.digits, scratch, ["--guidance-every", "1"])
    #expect(same == exact)
    for (arguments, words) in [
      (["--cache", "taylor:3", "--sampler", "pndm"], ["--cache", "once a step", "taylor:3,2"]),
      (["--cache", "fora:3"], ["--cache", "taylor:N"]), (["--cache", "lite:1"], ["--cache", "2…100"]),
      (["--guidance-every", "0"], ["--guidance-every", "1…1000"]),
      (["--guidance-every", "2", "--cache", "lite:2"], ["--guidance-every", "1 with a cache"]),
    ] {
      try await expectFailure(
        ["sample", "--model", Model.digits, "--out", scratch.path("x.png")] + arguments, 64, words)
    }
  }

  @Test("--fast takes few steps of its own, and what stands beside it holds")
  func fast() async throws {
    let scratch = try Scratch()
    func settings(_ more: [String]) async throws -> (values: [String: String], samples: [Float]) {
      let out = scratch.path("fast.safetensors")
      _ = try await succeed(["sample", "--model", Model.digits, "--classes", "0-9", "--out", out] + more)
      let file = try SafetensorsFile(contentsOf: out)
      return (file.header.metadata, try scratch.tensors("fast.safetensors").floats("samples"))
    }
    let fast = try await settings(["--fast"])
    #expect(fast.values["Sampler"] == "unipc" && fast.values["Steps"] == "10", "\(fast.values)")
    #expect(fast.values["Guidance interval"] != nil && fast.values["Cache"] == nil, "\(fast.values)")
    let machine = try await succeed(["info", "--json"]).stdout
    let precision =
      machine.contains("\"native_int8\": true") ? "int8" : machine.contains("\"native_bf16\": true") ? "bf16" : "fp32"
    #expect(fast.values["Precision"] == precision)
    let other = try await settings(["--fast", "--steps", "4", "--precision", "fp32", "--guidance-interval", "0,999"])
    #expect(other.values["Steps"] == "4" && other.values["Guidance interval"] == "0,999", "\(other.values)")
    let same = try await settings([
      "--sampler", "unipc", "--schedule", "quadratic", "--steps", "4", "--guidance-interval", "0,999",
    ])
    #expect(other.samples == same.samples)
    for (option, value) in [
      ("--sampler", "ddim"), ("--schedule", "leading"), ("--eta", "0.5"), ("--cache", "lite:2"),
      ("--tolerance", "0.1,0.1"),
    ] {
      try await expectFailure(
        ["sample", "--model", Model.digits, "--fast", option, value, "--out", scratch.path("x.png")], 64,
        [option, "--fast"])
    }
  }
}
