// Samplers that begin on the way, against diffusers' schedulers as its image-to-image pipelines begin them:
// Tests/Fixtures/diffusion/image_to_image.safetensors.

import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTTensor
import TestSupport
import Testing

@Suite("Image to image against diffusers' add_noise and truncated steps") struct ImageToImageTests {
  private struct Case {
    let title: String
    let name: SamplerName
    let steps: Int
    let strength: Double
    let saved: DiffusersScheduler

    init(_ title: String) throws {
      let words = title.split(separator: ";", maxSplits: 3).map(String.init)
      self.title = title
      name = try #require(SamplerName(rawValue: words[0]))
      steps = try #require(Int(words[1]))
      strength = try #require(Double(words[2]))
      guard case .object(var members) = try JSONValue(parsing: Array(words[3].utf8), file: "case") else {
        throw DiTError(option: "config", expected: "an object", found: words[3])
      }
      members.append(JSONMember("clip_sample", .bool(false)))
      members.append(JSONMember("_class_name", .string(try #require(name.diffusersClass))))
      saved = try DiffusersScheduler(reading: JSONObjectReader(.object(members), file: "case"))
    }
  }

  private static let shape = SchedulerFunction.shape

  /// The largest difference of any state from diffusers', relative to the largest of its run.
  private func error(_ test: Case, from image: [Float], _ noise: [Float], restarting: Bool = true) throws -> Double {
    let fixture = try Fixture("image_to_image", folder: "diffusion")
    let expected = try fixture.doubles(test.title)
    let schedule = try test.saved.noise(.fixedSmall)
    let whole = try test.saved.process(test.name, on: schedule, nil, count: test.steps)
    let first = test.steps - min(Int(Double(test.steps) * test.strength), test.steps)
    let (signal, spread) = whole.level(beforeStep: first)
    var x = zip(image, noise).map { Float(signal * Double($0) + spread * Double($1)) }
    let found = restarting ? run(whole.starting(at: first), &x) : run(whole, &x)
    guard found.count == expected.count else { return .infinity }
    let largest = expected.map(abs).max() ?? 0
    return zip(found, expected).map { abs($0 - $1) }.max().map { $0 / largest } ?? .infinity
  }

  /// What the network sees at each evaluation, and the sample.
  private func run(_ process: any ReverseProcess, _ x: inout [Float]) -> [Double] {
    var found: [Double] = []
    var span = x.mutableSpan
    process.sample(
      &span, shape: Self.shape,
      predict: { x, step, output in
        for i in x.indices { found.append(Double(x[i])) }
        SchedulerFunction.answer(x, step.time.value, hasVarianceHalf: false, &output)
      },
      noise: { step, noise in SchedulerFunction.noise(step.evaluation, &noise) })
    return found + x.map(Double.init)
  }

  @Test("Every sampler begun on the way takes diffusers' states, to 1e-5 a step")
  func everyStateIsDiffusers() throws {
    let fixture = try Fixture("image_to_image", folder: "diffusion")
    let image = try fixture.doubles("image").map { Float($0) }
    let noise = try fixture.doubles("noise").map { Float($0) }
    let titles = fixture.names.filter { $0.contains(";") }
    #expect(titles.count == 85)
    for title in titles {
      let error = try error(Case(title), from: image, noise)
      #expect(error < 1e-5, "\(title): \(error)")
    }
  }

  /// What a solver would do that began with the history it does not have, and a start from unscaled noise.
  @Test("A start without a restart, and one at another level, miss by more than 1e-4")
  func wrongStartsAreSeen() throws {
    let fixture = try Fixture("image_to_image", folder: "diffusion")
    let image = try fixture.doubles("image").map { Float($0) }
    let noise = try fixture.doubles("noise").map { Float($0) }
    let test = try Case("dpmpp;20;0.5;{}")
    let other = try Case("dpmpp;20;0.95;{}")
    #expect(try error(test, from: image, noise) < 1e-5)
    #expect(try error(test, from: image.map { 0.99 * $0 }, noise) > 1e-4)
    #expect(try error(other, from: image, noise, restarting: false) > 1e-4)
  }
}
