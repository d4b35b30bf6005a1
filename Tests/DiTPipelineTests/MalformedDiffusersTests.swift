// Every malformed directory has its own error, which names the file and the key.

import DiTFiles
import DiTPipeline
import Foundation
import Testing

/// What a person reads of the error that a copy of the fixture `pipeline` gives after a change of one of its files.
private func failure(_ file: String, _ old: String, _ new: String) throws -> String {
  let directory = try copy()
  let path = directory("p/\(file)")
  let text = try String(contentsOfFile: path, encoding: .utf8)
  try #require(text.contains(old), "\(file) has no \(old)")
  try text.replacing(old, with: new).write(toFile: path, atomically: false, encoding: .utf8)
  return message(directory)
}

private func copy() throws -> TemporaryDirectory {
  let directory = try TemporaryDirectory()
  let source = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/diffusers/pipeline")
  try FileManager.default.copyItem(at: source, to: URL(filePath: directory("p")))
  return directory
}

private func message(_ directory: TemporaryDirectory) -> String {
  do {
    _ = try ModelReference(directory("p")).load()
    return "no error"
  } catch {
    return "\(error)".replacing(directory.path, with: "")
  }
}

@Suite("Malformed diffusers directories") struct MalformedDiffusersTests {
  private static let transformer = "transformer/config.json"
  private static let index = "transformer/diffusion_pytorch_model.safetensors.index.json"
  private static let first = "diffusion_pytorch_model-00001-of-00003.safetensors"

  static let cases: [(file: String, old: String, new: String, words: [String])] = [
    ("model_index.json", "\"DiTPipeline\"", "7", ["model_index.json: _class_name", "\"DiTPipeline\"", "found 7"]),
    ("model_index.json", "\"DiTPipeline\"", "[\"a\"]", ["_class_name", "\"DiTPipeline\"", "an array of 1"]),
    ("model_index.json", "\"_class_name\"", "\"_name_or_path\"", ["_class_name", "nothing"]),
    ("model_index.json", "\"DiTTransformer2DModel\"", "\"UNet2DModel\"", ["transformer", "UNet2DModel"]),
    ("model_index.json", "\"transformer\"", "\"text_encoder\"", ["transformer", "nothing"]),
    ("model_index.json", "\"4\": \"crane\"", "\"four\": \"crane\"", ["id2label.four", "a class, such as 0"]),
    ("model_index.json", "\"4\": \"crane\"", "\"4\": 4", ["id2label.4", "a string"]),
    ("model_index.json", "\"id2label\": {", "\"id2label\": [], \"x\": {", ["id2label", "an object", "an array of 0"]),
    ("model_index.json", "null,\n    null", "\"diffusers\",\n    \"AutoencoderKL\"", ["vae/config.json: no such file"]),
    ("model_index.json", "null,\n    null", "\"diffusers\",\n    \"VQModel\"", ["vae", "AutoencoderKL", "VQModel"]),
    (transformer, "\"DiTTransformer2DModel\"", "\"PixArtTransformer2DModel\"", ["config.json: _class_name", "PixArt"]),
    (transformer, "\"gelu-approximate\"", "\"gelu\"", ["activation_fn", "\"gelu\""]),
    (transformer, "\"ada_norm_zero\"", "\"ada_norm_single\"", ["norm_type", "ada_norm_single"]),
    (transformer, "\"norm_elementwise_affine\": false", "\"norm_elementwise_affine\": true", ["affine", "true"]),
    (transformer, "\"dropout\": 0.0", "\"dropout\": 1.5", ["dropout", "0.0 to 1.0", "1.5"]),
    (transformer, "\"dropout\": 0.0", "\"dropout\": \"no\"", ["dropout", "a number", "\"no\""]),
    (transformer, "\"out_channels\": 8", "\"out_channels\": 6", ["out_channels", "4 or 8", "found 6"]),
    (transformer, "\"patch_size\": 2", "\"patch_size\": 4", ["patch_size", "4 does not divide"]),
    (transformer, "\"num_layers\": 2", "\"num_layers\": \"two\"", ["num_layers", "a whole number", "\"two\""]),
    (transformer, "\"num_layers\": 2", "\"num_layers\": 1000", ["tensors", "1000 blocks"]),
    (transformer, "\"num_layers\": 2", "\"num_layers\": 3", ["missing", "transformer_blocks.2."]),
    (transformer, "\"num_layers\": 2", "\"num_layers\": 1", ["unexpected", "transformer_blocks.1."]),
    (transformer, "\"attention_head_dim\": 8", "\"attention_head_dim\": 16", ["of another shape", "pos_embed.proj"]),
    (transformer, "\"num_embeds_ada_norm\": 5", "\"num_embeds_ada_norm\": null", ["num_embeds_ada_norm", "null"]),
    (transformer, "\"norm_eps\": 1e-05", "\"norm_eps\": -1", ["norm_eps", "-1"]),
    (transformer, "\"sample_size\": 6", "\"sample_size\": 0", ["sample_size", "found 0"]),
    (transformer, "\"attention_bias\": true", "\"attention_bias\": false", ["unexpected", "attn1.to_q.bias"]),
    (transformer, "\"attention_bias\": true", "\"attention_bias\": 1", ["attention_bias", "true or false"]),
    (
      transformer, "\"sample_size\": 6", "\"sample_size\": 6, \"quantization_config\": {}",
      ["quantization_config", "quantized weights", "an object"]
    ),
    (
      transformer, "\"DiTTransformer2DModel\"", "\"Transformer2DModel\", \"only_cross_attention\": true",
      ["only_cross_attention", "expected false, found true"]
    ),
    (transformer, "{", "[", ["line"]),
    (
      "scheduler/scheduler_config.json", "\"linear\"", "\"sigmoid\"",
      ["scheduler_config.json", "beta_schedule", "sigmoid"]
    ),
    ("scheduler/scheduler_config.json", "\"epsilon\"", "\"flow_prediction\"", ["prediction_type", "flow_prediction"]),
    ("scheduler/scheduler_config.json", "\"beta_start\": 0.0001", "\"beta_start\": \"x\"", ["beta_start", "a number"]),
    (index, "\"weight_map\"", "\"weights\"", ["weight_map", "nothing"]),
    (index, first, "../\(first)", ["weight_map.", "plain name", "../diff"]),
    (index, first, "/etc/passwd", ["weight_map.", "plain name", "/etc/passwd"]),
    (index, first, ".hidden", ["weight_map.", "plain name"]),
    (index, first, "diffusion_pytorch_model-00009-of-00003.safetensors", ["weight_map.", "beside the index", "00009"]),
    (
      index, "\"proj_out_2.bias\":", "\"proj_out_3.bias\":",
      ["weight_map.proj_out_3.bias", "no tensor of that name there"]
    ),
    (index, "\"\(first)\"", "7", ["weight_map.", "a file name", "found 7"]),
  ]

  @Test("Each malformed directory is refused with file and key", arguments: cases.indices)
  func eachCaseIsRefusedByFileAndKey(number: Int) throws {
    let (file, old, new, words) = Self.cases[number]
    let message = try failure(file, old, new)
    #expect(words.allSatisfy(message.contains), "\(file), \(new): \(message)")
    #expect(!message.contains("\n"))
  }

  /// The index is the authority: what it does not name is not there.
  @Test("A tensor that the index does not name is missing")
  func tensorsThatTheIndexDoesNotNameAreNotThere() throws {
    let directory = try copy()
    let path = directory("p/\(Self.index)")
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    let kept = lines.filter { !$0.contains("\"proj_out_1.bias\"") }
    try #require(kept.count == lines.count - 1)
    try kept.joined(separator: "\n").write(toFile: path, atomically: false, encoding: .utf8)
    #expect(message(directory).contains("1 tensor missing: proj_out_1.bias"))
  }

  @Test("A missing part of a directory is refused by path")
  func missingPartsAreNamed() throws {
    for (part, words) in [
      (Self.transformer, "p/transformer/config.json: no such file"),
      ("scheduler/scheduler_config.json", "p/scheduler/scheduler_config.json: no such file"),
      (Self.index, "p/transformer/diffusion_pytorch_model.safetensors: no such file"),
    ] {
      let directory = try copy()
      try FileManager.default.removeItem(atPath: directory("p/\(part)"))
      #expect(message(directory).contains(words), "\(message(directory))")
    }
  }

  @Test("A truncated shard is refused")
  func truncatedShardsAreRefused() throws {
    let directory = try copy()
    let path = directory("p/transformer/\(Self.first)")
    try Data(contentsOf: URL(filePath: path)).dropLast(4).write(to: URL(filePath: path))
    #expect(message(directory).contains("the file is cut off"))
  }
}
