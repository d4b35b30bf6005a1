import DiTDiffusion
import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import TestSupport
import Testing

/// A program's own type that holds ours.
private struct Jobs: Codable, Equatable {
  struct Job: Codable, Equatable {
    var name: String
    var options: SamplingOptions
  }

  var model: ModelConfiguration
  var jobs: [Job]
}

@Suite("Configurations are Codable, through the reader of files")
struct CodableTests {
  private func coded<Value: Codable>(_ value: Value) throws -> Value {
    try JSONDecoder().decode(Value.self, from: JSONEncoder().encode(value))
  }

  private func refusal<Value: Decodable>(_ type: Value.Type, _ json: String) -> DiTError? {
    #expect(throws: DiTError.self) { try JSONDecoder().decode(type, from: Data(json.utf8)) }
  }

  private static let small =
    #""model": {"input_size": 8, "patch_size": 2, "in_channels": 1, "hidden_size": 32, "depth": 1, "num_heads": 2"#

  @Test("What is encoded is decoded again: every published size, both paths, and a file of every family")
  func roundTrips() throws {
    for name in ["digits", "latent", "nonull"] {
      let model = try ModelConfiguration(contentsOf: networkFixture(name) + "/config.json")
      #expect(try coded(model) == model)
      #expect(try coded(model.network) == model.network)
      #expect(try coded(model.diffusion) == model.diffusion)
      #expect(try coded(model.sampling) == model.sampling)
    }
    for name in DiTConfiguration.publishedNames + PublishedSize.all.map(\.name) {
      let model = try ModelReference(name).configuration()
      #expect(try coded(model) == model, "\(name)")
      #expect(try coded(model.network) == model.network, "\(name)")
      #expect(try coded(model.sampling) == model.sampling, "\(name)")
      let options = SamplingOptions(sampler: model.sampling.sampler, guidance: model.sampling.guidance)
      #expect(try coded(options) == options, "\(name)")
      #expect(try coded(model.diffusion) == model.diffusion, "\(name)")
    }
    let flow = DiffusionConfiguration(path: .linear, prediction: .velocity)
    #expect(try coded(flow) == flow)
  }

  @Test("Options hold everything, seeds beyond Int included")
  func options() throws {
    var options = SamplingOptions(
      sampler: Sampler(.ddim, steps: 12, schedule: .trailing, eta: 0.5),
      guidance: Guidance(scale: 3, interval: 100...700, channels: 1), seed: .max, random: .torch, batch: 5)
    #expect(try coded(options) == options)
    (options.seed, options.batch, options.sampler.schedule) = (7, nil, nil)
    (options.random, options.share) = (.philox, ImageShare(index: 2, of: 5))
    #expect(try coded(options) == options)
  }

  @Test("A value of a program's own type names the whole path of what is wrong")
  func pathsOfKeys() throws {
    let job = #"{"name": "a", "options": {"sampler": "ddim", "steps": 4, "guidance": 1}}"#
    let good = "{\(Self.small)}, \"jobs\": [\(job)]}"
    let jobs = try JSONDecoder().decode(Jobs.self, from: Data(good.utf8))
    #expect(jobs.jobs[0].options.sampler.steps == 4 && jobs.model.network.hiddenSize == 32)
    #expect(try coded(jobs) == jobs)
    let unknown = refusal(Jobs.self, good.replacing(#""steps": 4"#, with: #""steps": 4, "stepz": 5"#))
    #expect(unknown?.key == "jobs.0.options.stepz" && unknown?.found == "an unknown key" && unknown?.file == nil)
    #expect(unknown?.expected?.contains("guidance_interval") == true)
    let type = refusal(Jobs.self, good.replacing(#""depth": 1"#, with: #""depth": "one""#))
    #expect(type?.key == "model.depth" && type?.expected == "a whole number")
    let sizes = refusal(Jobs.self, good.replacing(#""patch_size": 2"#, with: #""patch_size": 3"#))
    #expect(sizes?.key == "model.patch_size" && sizes?.kind == .configuration)
    let range = refusal(Jobs.self, good.replacing(#""steps": 4"#, with: #""steps": 0"#))
    #expect(range?.key == "jobs.0.options.steps" && range?.exitStatus == 65)
    let seed = refusal(Jobs.self, good.replacing(#""steps": 4"#, with: #""steps": 4, "seed": -1"#))
    #expect(seed?.key == "jobs.0.options.seed" && seed?.found == "-1")
  }

  @Test("Without a model the keys that have no default must be there")
  func requiredKeys() {
    #expect(refusal(SamplingOptions.self, "{}")?.key == "sampler")
    #expect(refusal(SamplingConfiguration.self, #"{"sampler": "ddim", "steps": 3}"#)?.key == "guidance")
    #expect(refusal(SamplingOptions.self, #"{"sampler": "ddim", "guidance": 1}"#)?.key == "steps")
    #expect(refusal(DiffusionConfiguration.self, #"{"steps": 0}"#)?.key == "steps")
    #expect(refusal(DiTConfiguration.self, #"{"hidden_size": 30, "num_heads": 4}"#)?.key == "num_heads")
    #expect(refusal(ModelConfiguration.self, "[1]")?.expected == "an object")
  }

  @Test("A request changes what it names, and nothing where it is refused")
  func updates() throws {
    let model = try ModelConfiguration(contentsOf: networkFixture("digits") + "/config.json")
    let own = SamplingOptions(sampler: model.sampling.sampler, guidance: model.sampling.guidance, seed: 3)
    var options = own
    try options.update(json: #"{"steps": 20, "guidance": 2.5, "rng": "torch"}"#.utf8)
    #expect(options.sampler.steps == 20 && options.guidance.scale == 2.5 && options.random == .torch)
    #expect(
      options.seed == 3 && options.sampler.name == own.sampler.name && options.sampler.schedule == own.sampler.schedule)
    let before = options
    for (json, key) in [
      (#"{"seed": 9, "step": 20}"#, "step"), (#"{"seed": 9, "steps": 0}"#, "steps"), (#"{"batch": 0}"#, "batch"),
      (#"{"seed": 1, "seed": 2}"#, nil), ("[]", nil), ("{", nil),
    ] as [(String, String?)] {
      let error = #expect(throws: DiTError.self) { try options.update(json: json.utf8) }
      if let key { #expect(error?.key == key, "\(json)") }
      #expect(options == before, "\(json)")
    }
  }

  @Test("What cannot stand by itself is refused: an unknown scheduler's sampler, a path in JSON that has no folder")
  func whatCannotStandAlone() throws {
    let model = "{\(Self.small), \"latent_statistics\": \"/etc/hostname\"}}".dropFirst(#"{"model": "#.count).dropLast()
    let error = refusal(ModelConfiguration.self, String(model))
    #expect(error?.key == "latent_statistics" && error?.found == "a file's name")
  }

  @Test("Options inside a request of a program's own are laid over a model's, whole or not at all, with their path")
  func changes() throws {
    struct Request: Decodable {
      var classes: [Int]
      var options: SamplingOptions.Changes?
    }
    func read(_ json: String) throws -> Request { try JSONDecoder().decode(Request.self, from: Data(json.utf8)) }
    let own = SamplingOptions(sampler: Sampler(.dpmpp, steps: 9), guidance: Guidance(scale: 1), seed: 3)
    var options = own
    let request = try read(#"{"classes": [4], "options": {"steps": 20, "guidance": 2}}"#)
    try options.apply(#require(request.options))
    #expect(options.sampler.steps == 20 && options.guidance.scale == 2 && options.seed == 3 && request.classes == [4])
    #expect(try read(#"{"classes": []}"#).options == nil)
    let before = options
    let wrong = try #require(try read(#"{"classes": [], "options": {"seed": 1, "stepz": 2}}"#).options)
    let error = #expect(throws: DiTError.self) { try options.apply(wrong) }
    #expect(error?.key == "options.stepz" && options == before)
    #expect(throws: DiTError.self) { try read(#"{"classes": [], "options": 7}"#) }
    try options.update(json: #"{"steps": 4}"#)
    #expect(options.sampler.steps == 4)
  }

  @Test("Any JSON value is decoded as it is")
  func values() throws {
    let text = #"{"a": [1, 2.5, true, null, "x", {"b": []}], "c": -9007199254740993}"#
    let value = try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
    guard case .object(let members) = value else {
      Issue.record("\(value)")
      return
    }
    let sorted = members.sorted { $0.key < $1.key }
    #expect(
      sorted == [
        JSONMember(
          "a",
          .array([.integer(1), .number(2.5), .bool(true), .null, .string("x"), .object([JSONMember("b", .array([]))])])),
        JSONMember("c", .integer(-9_007_199_254_740_993)),
      ])
    #expect(
      try coded(JSONValue.array([.null, .integer(.max), .number(0.1)]))
        == .array([.null, .integer(.max), .number(0.1)]))
  }
}
