import ArgumentParser
import DiffusionTransformers

/// Which steps are taken. The command line's word counts, then the model's.
struct StepOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Steps to take, 1 to T (1000). (default: the model's, else 50)", valueName: "n"))
  var steps: Int?

  @Option(
    help: ArgumentHelp(
      """
      Which steps of T are kept: leading (i·⌊T/n⌋), trailing (T first), linspace (both ends), quadratic (dense at low \
      noise), jump or jump:γ (strides where β^γ is high are long, where it is low short; γ ≥ 0, alone ½), or \
      custom:T1,T2,… in ascending order. A flow has an even grid of its own and takes linspace alone. (default: the \
      model's, else linspace)
      """, valueName: "rule"),
    transform: StepSchedule.init(parsing:))
  var schedule: StepSchedule?

  func apply(to sampler: inout Sampler) {
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
      "How far the class pulls: 1 is the plain network, more is more typical. (default: the model's, else 4)",
      valueName: "scale"))
  var guidance: Double?

  @Option(
    help: ArgumentHelp(
      """
      Guide only at steps LO ≤ t ≤ HI, t in 0…T−1 (of a flow 0 to 1000); the others cost half. (default: all steps)
      """, valueName: "lo,hi"),
    transform: Guidance.interval(parsing:))
  var guidanceInterval: ClosedRange<Int>?

  @Option(
    help: ArgumentHelp(
      "Guide only the first N channels; 3 is what the reference program does. (default: all)", valueName: "n"))
  var guidanceChannels: Int?

  func apply(to guidance: inout Guidance) {
    if let scale = self.guidance { guidance.scale = scale }
    if let guidanceInterval { guidance.interval = guidanceInterval }
    if let guidanceChannels { guidance.channels = guidanceChannels }
  }
}

extension SamplerName: ExpressibleByArgument {}
