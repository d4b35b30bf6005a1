import ArgumentParser
import DiTEngine

/// The sampling timesteps: the command line's, else the model's.
struct StepOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Sampling steps, 1 to T (1000). (default: the model's, else 50)", valueName: "n"))
  var steps: Int?

  @Option(
    help: ArgumentHelp(
      """
      Sampling timesteps: leading (i·⌊T/n⌋), trailing (T−1 first), linspace (both ends), quadratic (dense at low noise), \
      jump or jump:γ (long strides where β^γ is high, short ones where it is low; γ ≥ 0, ½ if left out), or \
      custom:T1,T2,… in ascending order. A linear path has an even grid of its own and takes only linspace. (default: the \
      model's, else linspace)
      """, valueName: "rule"),
    transform: StepSchedule.init(parsing:))
  var schedule: StepSchedule?

  @Option(
    help: ArgumentHelp(
      """
      Moves the steps of a linear path towards noise where it is below 1: s' = s/(s + a(1−s)), by euler and heun; diffusers' \
      shift is 1/a. (default: the model's, else 1)
      """, valueName: "a"))
  var shift: Double?

  func apply(to sampler: inout Sampler) {
    if let shift { sampler.shift = shift }
    if let schedule { sampler.schedule = schedule }
    if let steps {
      sampler.steps = steps
    } else if case .custom(let list) = schedule {
      sampler.steps = list.count
    }
  }
}

/// Classifier-free guidance.
struct GuidanceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Classifier-free guidance scale; 1 disables guidance. A network that is told guidance (token_groups) is told it as ω, at \
      least 1, and runs no second pass. (default: the model's, else 4)
      """,
      valueName: "scale"))
  var guidance: Double?

  @Option(
    help: ArgumentHelp(
      """
      Guide only where LO ≤ t ≤ HI (of JiT LO < t < HI), t in 0…T−1, or on a linear path in the network's time \
      (network_time), real numbers; elsewhere only the conditional prediction is computed, at half the cost. A network that \
      is told guidance is told the interval as well. (default: the model's, else all steps)
      """, valueName: "lo,hi"),
    transform: Guidance.interval(parsing:))
  var guidanceInterval: ClosedRange<Double>?

  @Option(
    help: ArgumentHelp(
      "Guide only the first N channels; 3 reproduces the reference implementation. (default: all)", valueName: "n"))
  var guidanceChannels: Int?

  @Option(
    help: ArgumentHelp(
      """
      Compute the unconditional prediction at one of N guided evaluations that follow one another; the others take the \
      difference of the two predictions from it. (default: 1)
      """, valueName: "n"))
  var guidanceEvery: Int?

  func apply(to guidance: inout Guidance) {
    if let guidanceEvery { guidance.every = guidanceEvery }
    if let scale = self.guidance { guidance.scale = scale }
    if let guidanceInterval { guidance.interval = guidanceInterval }
    if let guidanceChannels { guidance.channels = guidanceChannels }
  }
}

extension SamplerName: ExpressibleByArgument {}
