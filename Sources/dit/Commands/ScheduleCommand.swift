import ArgumentParser
import DiTImaging
import DiffusionTransformers
import Foundation

/// `dit schedule`: which of the T steps a sampler keeps.
struct ScheduleCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "schedule",
    abstract: "Show the steps that a sampler keeps, with their noise levels.",
    discussion: """
      For each kept step, from the least noisy:
        t          the training step, 0 to T−1, that the network is asked at
        beta       β_t, the noise that training step t adds
        alpha_bar  ᾱ_t = (1−β_0)…(1−β_t), the share of variance that is signal
        alpha      √ᾱ_t
        stride     how far the sampler goes from there: to the kept step below,
                   and from the lowest to clean data, t = −1
      Where attention depends on the noise:
        scale      what q·k is multiplied by, before a mask's gate
        window     k(t): image tokens i and j see each other when |i − j| < k
      A flow is sampled at s = 1 − i/n; its network's time is 1000·s, and t the
      training step whose β and ᾱ diffusion-aware attention takes.

        dit schedule --steps 10
        dit schedule --schedule jump:0.5 --steps 50
        dit schedule --schedule trailing --steps 20 --json DiT-XL/2
        dit schedule --out schedule.png runs/digits
      """)

  @Argument(
    help:
      "A model directory, a diffusers directory, a .safetensors or .pt state dict, or a published name. (default: the digits model)"
  )
  var model: String?

  @OptionGroup var heads: HeadsOption
  @OptionGroup var steps: StepOptions

  @Flag(help: "Print one JSON object instead of a table.")
  var json = false

  @Option(
    help: ArgumentHelp(
      "Draw ᾱ, β and attention's scale and window over t, with the kept steps, to this .png.", valueName: "file"))
  var out: String?

  func run() throws {
    let target = try out.map { path throws(Failure) in try OutputFile(path, .png) }
    let model = try heads.configuration(of: model)
    var sampler = model.sampling.sampler
    steps.apply(to: &sampler)
    let noise = try model.noise()
    let saved = model.diffusersScheduler
    let times = try sampler.process(on: noise, saved: saved).stepTimes
    let kept = KeptSteps(noise, times.reversed(), rule: "\(sampler.rule(saved: saved))", network: model.network)
    try target?.checkWritable()
    if let target {
      let picture = SchedulePlot.picture(noise, kept, network: model.network)
      try target.saving { try picture.writePNG(to: target.path, text: [(key: "Software", value: "dit")]) }
    }
    print(json ? kept.json.text : kept.table, terminator: "")
  }
}

/// The kept steps and what is known of each.
struct KeptSteps {
  struct Row {
    let time: NetworkTime
    let beta, alphaBar: Double
    let stride: Int
    /// What attention makes of the step, where it is not the published one.
    let attention: Attention?

    var t: Int { time.index }
    /// A flow's s.
    var s: Double { Double(time.value) / FlowSchedule.timeScale }
    var alpha: Double { alphaBar.squareRoot() }
  }

  struct Attention {
    let scale: Float
    /// Nil without a mask.
    let window: Int?

    init?(_ network: DiTConfiguration, _ noise: NoiseSchedule, at t: Int) {
      let (attention, grid) = (network.attention, network.inputGrid)
      guard !attention.isStandard else { return nil }
      scale = attention.scale(at: t, of: noise.attention, headSize: network.headSize)
      window =
        attention.hasGate
        ? attention.width(at: t, of: noise.attention, rows: grid.rows, columns: grid.columns) : nil
    }

    static func header(_ attention: Attention?) -> String {
      guard let attention else { return "" }
      return "        scale" + (attention.window == nil ? "" : "   window")
    }

    var text: String { String(format: " %12.6g", scale) + (window.map { String(format: " %8d", $0) } ?? "") }

    var members: [JSONMember] {
      [JSONMember("scale", .number(Double(scale)))] + (window.map { [JSONMember("window", .integer($0))] } ?? [])
    }
  }

  /// T.
  let total: Int
  let isFlow: Bool
  let rule: String
  /// Ascending.
  let rows: [Row]

  /// - Parameter times: ascending.
  init(_ noise: NoiseSchedule, _ times: [NetworkTime], rule: String, network: DiTConfiguration) {
    total = noise.steps
    isFlow = noise.configuration.isFlow
    self.rule = rule
    rows = zip([-1] + times.map(\.index), times).map { below, time in
      let t = time.index
      return Row(
        time: time, beta: noise.betas[t], alphaBar: noise.alphasCumprod[t], stride: t - below,
        attention: Attention(network, noise, at: t))
    }
  }

  var table: String {
    var text = "\(rule): \(rows.count) of \(total) steps\n\n"
    text += "  step      t         beta    alpha_bar        alpha   stride\(isFlow ? "            s" : "")"
    text += Attention.header(rows.first?.attention) + "\n"
    for (index, row) in rows.enumerated() {
      text += String(
        format: "%6d %6d %12.6g %12.6g %12.6g %8d", index, row.t, row.beta, row.alphaBar, row.alpha, row.stride)
      text += (isFlow ? String(format: " %12.6g", row.s) : "") + (row.attention?.text ?? "") + "\n"
    }
    return text
  }

  var json: JSONValue {
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
              ] + (isFlow ? [JSONMember("s", .number(row.s))] : []) + (row.attention?.members ?? []))
          })),
    ])
  }
}
