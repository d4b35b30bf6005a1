import DiTDiffusion
import DiTModel

/// How a run goes from noise to images, or back.
enum SamplingMethod {
  /// By steps that are known beforehand.
  case steps(any ReverseProcess)
  /// By ``DormandPrince``.
  case adaptive(AdaptiveSampler)

  /// What N(0, 1) noise is multiplied by to start from.
  var startScale: Double {
    switch self {
    case .steps(let process): process.startScale
    case .adaptive(let sampler): sampler.process.noiseScale
    }
  }

  /// How many times the network is evaluated for one image at most, at one time.
  func passes(_ network: DiTConfiguration, _ guidance: Guidance) -> Int {
    switch self {
    case .steps(let process):
      process.evaluations.contains { guidance.needsSecondPass(network, at: $0) } ? 2 : 1
    case .adaptive: guidance.scale == 1 ? 1 : 2
    }
  }
}

/// ``DormandPrince`` on a model's process.
struct AdaptiveSampler {
  let process: DiffusionProcess
  let tolerance: StepTolerance
  /// S: after how many even parts of the way progress is reported.
  let points: Int

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
