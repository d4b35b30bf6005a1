import ArgumentParser
import DiTEngine
import DiTImaging
import DiTPictures
import Foundation

/// `dit schedule`: the timesteps that a sampler visits.
struct ScheduleCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "schedule",
    abstract: "Show the sampling timesteps and their noise levels.",
    discussion: """
      For each sampling timestep, from the least noisy:
        t          the training timestep, 0 to T−1, that the network is given
        beta       β_t, the variance of the noise added at timestep t
        alpha_bar  ᾱ_t = (1−β_0)…(1−β_t), the signal's share of the variance
        alpha      √ᾱ_t
        stride     the distance to the next sampling timestep below, or from the
                   lowest to clean data, t = −1
      Where attention depends on the noise level:
        scale      the factor of q·k, before a mask's gate
        window     k(t): image tokens i and j attend to each other if |i − j| < k
      Timesteps between two training timesteps (euler and heun on a diffusers
      directory) are shown as the nearer one; steps may share one.
      A linear path is sampled at s = 1 − i/n. Its network's time is 1000·s, or the
      column time where network_time is s or 1-s, and t is the training timestep whose
      β and ᾱ diffusion-aware attention uses. A network that is told the length of a
      step (meanflow) sees the column h, t − r, instead.

        dit schedule --steps 10
        dit schedule --schedule jump:0.5 --steps 50
        dit schedule --schedule trailing --steps 20 --json DiT-XL/2
        dit schedule --out schedule.png runs/digits
      """)

  @Argument(
    help:
      "A model directory, a diffusers directory, a .safetensors or .pt state dict, digits, fashion, or a published name. (default: digits)"
  )
  var model: String?

  @OptionGroup var hints: HintOptions
  @OptionGroup var steps: StepOptions

  @Option(
    help: ArgumentHelp("Whose timesteps, by the names of `dit sample`. (default: the model's)", valueName: "name"))
  var sampler: SamplerName?

  @Flag(help: "Print one JSON object instead of a table.")
  var json = false

  @Option(
    help: ArgumentHelp(
      "Plot ᾱ, β and attention's scale and window over t, with the sampling timesteps, to this .png.", valueName: "file"
    ))
  var out: String?

  func run() throws {
    let target = try out.map { path throws(Failure) in try OutputFile(path, .png) }
    let model = try hints.configuration(of: model)
    var sampler = model.sampling.sampler
    if let name = self.sampler {
      sampler.use(name)
    }
    steps.apply(to: &sampler)
    let noise = try model.noise()
    let saved = model.diffusersScheduler
    try model.network.check(sampler.name)
    let process = try sampler.process(on: noise, saved: saved)
    let times = process.stepTimes
    let lengths = times.indices.map { process.told(at: $0) }
    let timesteps = SamplingTimesteps(
      noise, times.reversed(), rule: "\(sampler.rule(saved: saved))", network: model.network,
      lengths: sampler.name == .meanflow ? lengths.reversed() : nil)
    try target?.checkWritable()
    if let target {
      let picture = SchedulePlot.picture(noise, timesteps, network: model.network)
      try target.saving { try picture.writePNG(to: target.path, text: [(key: "Software", value: "dit")]) }
    }
    try StandardOutput.write(json ? timesteps.json.text : timesteps.table, terminator: "")
    Warnings.write(for: model)
  }
}

extension SamplingTimesteps {
  /// Whether the network's time is neither t nor 1000·s.
  private var showsTime: Bool { linearTime.map { $0 != .thousandths } ?? false }

  fileprivate var table: String {
    var text = "\(rule): \(rows.count) of \(total) steps\n\n"
    text += "  step      t         beta    alpha_bar        alpha   stride"
    text +=
      (linearTime == nil ? "" : "            s") + (showsTime ? "         time" : "")
      + (rows.first?.length == nil ? "" : "            h")
    text += Attention.header(rows.first?.attention) + "\n"
    for (index, row) in rows.enumerated() {
      text += String(
        format: "%6d %6d %12.6g %12.6g %12.6g %8d", index, row.t, row.beta, row.alphaBar, row.alpha, row.stride)
      if let s = row.s { text += String(format: " %12.6g", s) }
      if showsTime { text += String(format: " %12.6g", row.time.value) }
      if let length = row.length { text += String(format: " %12.6g", length) }
      text += (row.attention?.text ?? "") + "\n"
    }
    return text
  }

  fileprivate var json: JSONValue {
    .object([
      JSONMember("schedule", .string(rule)), JSONMember("steps", .integer(rows.count)),
      JSONMember("training_steps", .integer(total)),
      JSONMember(
        "kept",
        .array(
          rows.map { row in
            .object(
              [
                JSONMember("t", .integer(row.t)), JSONMember("beta", .number(row.beta)),
                JSONMember("alpha_bar", .number(row.alphaBar)), JSONMember("alpha", .number(row.alpha)),
                JSONMember("stride", .integer(row.stride)),
              ] + (row.s.map { [JSONMember("s", .number($0))] } ?? [])
                + (showsTime ? [JSONMember("time", .number(Double(row.time.value)))] : [])
                + (row.length.map { [JSONMember("h", .number(Double($0)))] } ?? [])
                + (row.attention?.members ?? []))
          })),
    ])
  }
}

extension SamplingTimesteps.Attention {
  fileprivate static func header(_ attention: Self?) -> String {
    guard let attention else { return "" }
    return "        scale" + (attention.window == nil ? "" : "   window")
  }

  fileprivate var text: String { String(format: " %12.6g", scale) + (window.map { String(format: " %8d", $0) } ?? "") }

  fileprivate var members: [JSONMember] {
    [JSONMember("scale", .number(Double(scale)))] + (window.map { [JSONMember("window", .integer($0))] } ?? [])
  }
}
