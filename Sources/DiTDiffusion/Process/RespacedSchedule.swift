import DiTTensor

/// The chain that is left when only S of the T steps are kept.
///
/// ᾱ at a kept step is the training chain's; β' = 1 − ᾱ_{τ_i}/ᾱ_{τ_{i−1}}, and the posterior tables follow from it
/// (Nichol & Dhariwal 2021, section 4). The network still sees the training index τ_i; β' serve only the sampler. What
/// its output means there is for the full chain to say.
public struct RespacedSchedule: Equatable, Sendable {
  /// τ_0 < … < τ_{S−1}.
  public let timesteps: [Int]
  /// β', ᾱ and the posterior, indexed by i = 0…S−1.
  public let tables: PosteriorTables
  public let variance: Variance
  /// What the output means, by the training index.
  public let coefficients: PredictionCoefficients

  /// The number S of kept steps.
  public var count: Int { timesteps.count }

  /// Keeps the given steps of a chain.
  ///
  /// - Throws: `DiTError` when they are not strictly ascending inside 0…T−1, or there are none; for a path without
  ///   training steps.
  public init(_ schedule: NoiseSchedule, keeping timesteps: [Int]) throws(DiTError) {
    let path = schedule.configuration.path
    guard path.hasPosterior else {
      throw DiTError(option: "path", expected: "one with training steps to keep", found: path.rawValue)
    }
    try StepSchedule.check(timesteps, of: schedule.steps)
    self.timesteps = timesteps
    variance = schedule.variance
    tables = PosteriorTables(alphasCumprod: timesteps.map { schedule.alphasCumprod[$0] })
    coefficients = PredictionCoefficients(schedule)
  }

  /// Keeps steps that go to other levels than the kept step below, as diffusers' do.
  ///
  /// - Parameters:
  ///   - timesteps: strictly ascending inside 0…T−1.
  ///   - previous: ᾱ at the end of each of their steps.
  package init(_ schedule: NoiseSchedule, keeping timesteps: [Int], previous: [Double]) {
    self.timesteps = timesteps
    variance = schedule.variance
    tables = PosteriorTables(alphasCumprod: timesteps.map { schedule.alphasCumprod[$0] }, previous: previous)
    coefficients = PredictionCoefficients(schedule)
  }

  /// Keeps S steps by rule; see `StepSchedule.timesteps(count:betas:)` for what is refused.
  public init(_ schedule: NoiseSchedule, _ rule: StepSchedule, count: Int?) throws(DiTError) {
    try self.init(schedule, keeping: rule.timesteps(count: count, betas: schedule.betas))
  }

  /// All but so many of the noisiest steps.
  private init(_ schedule: RespacedSchedule, droppingNoisiest dropped: Int) {
    let (tables, kept) = (schedule.tables, schedule.count - dropped)
    timesteps = Array(schedule.timesteps.prefix(kept))
    variance = schedule.variance
    self.tables = PosteriorTables(
      alphasCumprod: Array(tables.alphasCumprod.prefix(kept)),
      previous: Array(tables.alphasCumprodPrevious.prefix(kept)),
      betas: Array(tables.betas.prefix(kept)))
    coefficients = schedule.coefficients
  }

  /// The steps from one on, counted from the noisiest.
  ///
  /// - Precondition: `step` in 0…S−1.
  func starting(at step: Int) -> RespacedSchedule {
    precondition(0..<count ~= step, "step \(step) of \(count)")
    return step == 0 ? self : RespacedSchedule(self, droppingNoisiest: step)
  }

  /// That of ᾱ at a step counted from the noisiest.
  func level(beforeStep step: Int) -> (signal: Double, spread: Double) {
    let bar = tables.alphasCumprod[count - 1 - step]
    return (bar.squareRoot(), (1 - bar).squareRoot())
  }

  /// The network times of the kept steps, from the noisiest down.
  var evaluations: [NetworkTime] { timesteps.reversed().map { NetworkTime($0) } }

  /// signal·x̂_* + spread·ε̂ at step i, as noised·x + output·out. No large terms cancel for any prediction.
  func combination(
    _ index: Int, signal: Double, spread: Double
  ) -> (noised: Double, output: Double) {
    let clean = coefficients.clean(at: timesteps[index])
    let epsilon = coefficients.epsilon(at: timesteps[index])
    return (
      signal * clean.noised + spread * epsilon.noised, signal * clean.output + spread * epsilon.output
    )
  }
}
