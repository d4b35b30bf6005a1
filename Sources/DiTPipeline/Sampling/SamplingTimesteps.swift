import DiTDiffusion
import DiTKernels
import DiTModel

/// The timesteps that a sampler visits, with their noise levels, from the least noisy: what `dit schedule` prints.
///
///     let times = try model.sampling.sampler.process(on: noise).stepTimes
///     let timesteps = SamplingTimesteps(noise, times.reversed(), rule: "jump:0.5", network: model.network)
public struct SamplingTimesteps: Sendable {
  /// A timestep.
  public struct Row: Sendable {
    /// The network's time.
    public let time: NetworkTime
    /// β_t and ᾱ_t of the training index ``t``.
    public let beta, alphaBar: Double
    /// From this training index to the one below; from the lowest to clean data, t = −1.
    public let stride: Int
    /// s of a linear path, 0…1; nil on a β path.
    public let s: Double?
    /// t − r of the step from here, in the network's time, of a network that is told it; else nil.
    public let length: Float?
    /// Attention's scale and window; nil for standard attention.
    public let attention: Attention?

    /// The training index, 0…T−1.
    public var t: Int { time.index }
    /// √ᾱ_t.
    public var alpha: Double { alphaBar.squareRoot() }
  }

  /// Diffusion-aware attention at a timestep.
  public struct Attention: Equatable, Sendable {
    /// The factor of q·k, before a mask's gate.
    public let scale: Float
    /// k(t), in tokens; nil without a mask.
    public let window: Int?

    /// Nil for standard attention.
    public init?(_ network: DiTConfiguration, _ noise: NoiseSchedule, at t: Int) {
      let (attention, grid) = (network.attention, network.inputGrid)
      guard !attention.isStandard else { return nil }
      scale = attention.scale(at: t, of: noise.attention, headSize: network.headSize)
      window =
        attention.hasGate
        ? attention.width(at: t, of: noise.attention, rows: grid.rows, columns: grid.columns) : nil
    }
  }

  /// T.
  public let total: Int
  /// What the network's time counts on a linear path; nil where it is ``Row/t``.
  public let linearTime: LinearTime?
  /// How the timesteps were chosen, such as `jump:0.5`.
  public let rule: String
  /// Ascending.
  public let rows: [Row]

  /// - Parameters:
  ///   - noise: the schedule.
  ///   - times: from the least noisy.
  ///   - rule: the name of the rule that chose them.
  ///   - network: of the model.
  ///   - lengths: t − r of the step from each, for a network that is told guidance.
  public init(
    _ noise: NoiseSchedule, _ times: [NetworkTime], rule: String, network: DiTConfiguration, lengths: [Float]? = nil
  ) {
    precondition(lengths.map { $0.count == times.count } ?? true, "\(times.count) times of another number of steps")
    total = noise.steps
    let process = noise.process
    linearTime = process.linearTime
    self.rule = rule
    rows = times.indices.map { index in
      let (below, time) = (index == 0 ? -1 : times[index - 1].index, times[index])
      let t = time.index
      return Row(
        time: time, beta: noise.betas[t], alphaBar: noise.alphasCumprod[t], stride: t - below,
        s: process.s(of: time), length: lengths?[index], attention: Attention(network, noise, at: t))
    }
  }
}
