import DiTDiffusion
import DiTModel
import DiTTensor

/// How a run goes from noise to images, or back.
enum SamplingMethod {
  /// By steps that are known beforehand.
  case steps(any SamplingProcess)
  /// From images to noise.
  case inversion(any ReverseProcess)
  /// By ``DormandPrince``.
  case adaptive(AdaptiveSampler)

  /// What N(0, 1) noise is multiplied by to start from.
  var startScale: Double {
    switch self {
    case .steps(let process): process.startScale
    case .inversion(let process): process.startScale
    case .adaptive(let sampler): sampler.process.noiseScale
    }
  }

  /// How many times the network is evaluated for one image at most, at one time.
  func passes(_ network: DiTConfiguration, _ guidance: Guidance) -> Int {
    func passes(_ process: any ReverseProcess) -> Int {
      process.evaluations.contains { guidance.needsSecondPass(network, at: $0) } ? 2 : 1
    }
    return switch self {
    case .steps(let process): passes(process)
    case .inversion(let process): passes(process)
    case .adaptive: guidance.scale == 1 ? 1 : 2
    }
  }

  /// Refuses to forecast where the network is not evaluated once a step.
  ///
  /// - Throws: `DiTError` of `cache`.
  func check(_ caching: StepCaching?) throws(DiTError) {
    guard let caching else { return }
    if case .steps(let process) = self, process.evaluations.count == process.stepCount { return }
    throw DiTError(
      option: "cache", expected: "none with a sampler that evaluates the network other than once a step",
      found: caching.description)
  }

  /// S.
  var stepCount: Int {
    switch self {
    case .steps(let process): process.stepCount
    case .inversion(let process): process.stepCount
    case .adaptive(let sampler): sampler.points
    }
  }

  /// The last of the steps, and the level of noise that they begin at.
  ///
  /// - Parameter taken: 1…S of them.
  func ending(_ taken: Int) -> (method: SamplingMethod, level: (signal: Double, spread: Double)) {
    let first = stepCount - taken
    switch self {
    case .steps(let process): return (.steps(process.starting(at: first)), process.level(beforeStep: first))
    case .adaptive(var sampler):
      sampler.skipped = first
      let s = 1 - sampler.begin
      return (.adaptive(sampler), (1 - s, s * sampler.process.noiseScale))
    case .inversion: preconditionFailure("a run to noise begins with images")
    }
  }
}

/// ``DormandPrince`` on a model's process.
struct AdaptiveSampler {
  let process: DiffusionProcess
  let tolerance: StepTolerance
  /// S: after how many even parts of the way progress is reported.
  let points: Int
  /// How many of them lie before the start.
  var skipped = 0

  /// τ of the start.
  var begin: Double { Double(skipped) / Double(points) }

  /// The network's time at τ = 1 − s, which may be beyond 1.
  func networkTime(_ tau: Double) -> NetworkTime {
    guard let linearTime = process.linearTime else { preconditionFailure("path \(process.path.rawValue)") }
    // Of `1-s` it is τ itself, without the rounding of two differences.
    let time = Float(linearTime == .oneMinusS ? tau : linearTime.time(1 - tau))
    return NetworkTime(value: time, index: linearTime.trainingIndex(networkTime: time, steps: process.steps))
  }

  /// dx/dτ = noised·x + output·out.
  func slope(_ tau: Double) -> (noised: Double, output: Double) {
    let (noised, output) = process.velocity(s: 1 - tau)
    return (-noised, -output)
  }

  /// x̂_* = noised·x + output·dx/dτ.
  func clean(_ tau: Double) -> (noised: Double, output: Double) {
    let ofNoised = process.velocity(s: 1 - tau).noised
    return (1, ofNoised == 0 ? 1 - tau : 1 / ofNoised)
  }
}
