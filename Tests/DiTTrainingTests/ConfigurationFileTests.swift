import DiTDiffusion
import DiTFiles
import DiTPipeline
import DiTTensor
import DiTTraining
import Testing

@Suite("A training configuration file") struct ConfigurationFileTests {
  private let directory: TemporaryDirectory
  private static let network =
    #""input_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2"#

  init() throws { directory = try TemporaryDirectory() }

  private func file(
    _ text: String, classes: DataClasses? = nil, defaults: TrainingConfiguration? = nil
  ) throws -> ConfigurationFile {
    let path = directory("c.json")
    try AtomicFile.write(text, to: path)
    return try ConfigurationFile(contentsOf: path, classes: classes, defaults: defaults)
  }

  @Test("Every part is optional, and keys left out take the defaults")
  func parts() throws {
    let empty = try file("{}")
    #expect(empty.model == nil && empty.training == nil)
    var defaults = TrainingConfiguration()
    (defaults.steps, defaults.batch) = (17, 3)
    let training = try #require(try file(#"{"training": {"batch": 9}}"#, defaults: defaults).training)
    #expect(training.steps == 17 && training.batch == 9)
  }

  @Test("Sampling is the file's own part, else the model's, else what is recommended for training")
  func sampling() throws {
    let bare = try #require(try file("{\"model\": {\(Self.network)}}").model)
    #expect(bare.sampling == .recommended(bare.network, bare.diffusion))
    let own = #"{"model": {\#(Self.network), "sampling": {"sampler": "ddpm", "steps": 7}}"#
    let stated = try #require(try file(own + "}").model)
    #expect(stated.sampling.sampler.name == .ddpm && stated.sampling.sampler.steps == 7)
    let both = try file(own + #", "sampling": {"steps": 5}}"#)
    #expect(both.model?.sampling.sampler.steps == 5 && both.model?.sampling.sampler.name == .ddpm)
    var other = bare
    try both.applySampling(to: &other)
    #expect(other.sampling.sampler.steps == 5)
  }

  @Test("Classes come from the data, and contradictions and unknown keys are errors that name them")
  func classes() throws {
    let classes = DataClasses(source: "data", names: ["a", "b"], statedCount: 2, count: 2)
    let model = try #require(try file("{\"model\": {\(Self.network)}}", classes: classes).model)
    #expect(model.network.numClasses == 2 && model.classNames == ["a", "b"])
    let cases = [
      ("{\"model\": {\(Self.network), \"num_classes\": 3}}", "model.num_classes"),
      (#"{"training": {"bach": 9}}"#, "training.bach"), (#"{"modell": {}}"#, "modell"),
      ("{\"model\": {\(Self.network)}, \"sampling\": {\"steps\": 5000}}", "model.sampling.steps"),
    ]
    for (text, key) in cases {
      let error = #expect(throws: DiTError.self) { try file(text, classes: classes) }
      #expect(error?.key == key, "\(text)")
    }
  }
}
