/// The chain that is left when only S of the T steps are kept.
///
/// ᾱ at a kept step is the training chain's; β' = 1 − ᾱ_{τ_i}/ᾱ_{τ_{i−1}}, and the posterior tables follow from it
/// (Nichol & Dhariwal 2021, section 4). The network still sees the training index τ_i; β' serve only the sampler.
public struct RespacedSchedule: Equatable, Sendable {
  /// τ_0 < … < τ_{S−1}.
  public let timesteps: [Int]
  /// β', ᾱ and the posterior, indexed by i = 0…S−1.
  public let tables: PosteriorTables
  public let variance: Variance

  /// The number S of kept steps.
  public var count: Int { timesteps.count }

  /// Keeps the given steps of a chain.
  ///
  /// - Throws: `DiffusionError` when they are not strictly ascending inside 0…T−1, or there are none.
  public init(_ schedule: NoiseSchedule, keeping timesteps: [Int]) throws(DiffusionError) {
    try StepSchedule.check(timesteps, of: schedule.steps)
    self.timesteps = timesteps
    variance = schedule.variance
    tables = PosteriorTables(alphasCumprod: timesteps.map { schedule.alphasCumprod[$0] })
  }

  /// Keeps S steps by rule; see `StepSchedule.timesteps(count:of:)` for what is refused.
  public init(_ schedule: NoiseSchedule, _ rule: StepSchedule, count: Int?) throws(DiffusionError) {
    try self.init(schedule, keeping: rule.timesteps(count: count, of: schedule.steps))
  }
}
