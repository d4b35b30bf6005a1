// The one value that knows path × target: what else asks about levels, times, or the meaning of an output asks here.
//
// Letters: x_* clean data, ε noise of unit variance, ς the noise scale, out the network's output; s in 0…1 of a linear path,
// 1 being noise; x = signal·x_* + spread·ε. Everything in Double.

import DiTKernels
import DiTTensor
import Foundation

/// How data become noise and what the network says about it: a path and a target, with the conventions of its time.
///
/// |              | beta               | linear                                             |
/// |--------------|--------------------|----------------------------------------------------|
/// | times        | whole t in 0…T−1   | real: 1000·s, s or 1−s                             |
/// | signal, spread | √ᾱ_t, √(1−ᾱ_t)   | 1−s, s·ς                                           |
/// | targets      | epsilon, mean, x0, v | x0, velocity                                     |
/// | x̂_*          | ``PredictionCoefficients`` | out · x0; x − s·out · velocity (x + s·out for `1-s`) |
/// | dx/ds        | –                  | (x − out)/max(s, t_floor) · x0; ±out · velocity    |
public struct DiffusionProcess: Equatable, Sendable {
  /// β_t and ᾱ_t of all T steps. On a linear path only diffusion-aware attention reads them.
  public let schedule: NoiseSchedule
  public let path: DiffusionPath
  /// What the network says.
  public let target: PredictionTarget
  /// What the loss compares.
  public let lossTarget: PredictionTarget
  /// What the loss is made of.
  public let loss: LossTerms
  /// What the network counts its time in on a linear path; nil where it is t itself.
  public let linearTime: LinearTime?
  /// ς.
  public let noiseScale: Double
  private let timeFloor: Double
  private let timeDistribution: TimeDistribution

  init(_ schedule: NoiseSchedule) {
    let configuration = schedule.configuration
    self.schedule = schedule
    path = configuration.path
    target = configuration.prediction.target
    lossTarget = configuration.lossTarget?.target ?? target
    loss = configuration.loss
    linearTime = path == .linear ? configuration.networkTime : nil
    noiseScale = configuration.noiseScale
    timeFloor = configuration.timeFloor
    timeDistribution = configuration.timeDistribution
  }

  /// T.
  public var steps: Int { schedule.steps }

  /// Whether the second half of the output's channels is a variance that is trained and sampled with. Where there is such a
  /// half and this is false, nothing reads it and it gets no gradient.
  public var learnsVariance: Bool { path.hasPosterior && schedule.variance == .learnedRange }

  // MARK: Times and levels

  /// The times that the network knows: 0…T−1, or 0…1000 or 0…1 of a linear path.
  public var timeRange: ClosedRange<Float> {
    0...(linearTime.map { Float($0.greatest) } ?? Float(steps - 1))
  }

  /// The network time with its training index. A time between two indices of a β path has the nearer one's.
  ///
  /// - Precondition: `time` is in ``timeRange``.
  public func networkTime(_ time: Float) -> NetworkTime {
    precondition(timeRange ~= time, "time \(time) is not in \(timeRange)")
    let index = linearTime?.trainingIndex(networkTime: time, steps: steps) ?? Int(time.rounded())
    return NetworkTime(value: time, index: index)
  }

  /// The network time of s in 0…1.
  ///
  /// - Precondition: the path is linear.
  public func networkTime(s: Double) -> NetworkTime {
    NetworkTime(value: Float(linear.time(s)), index: LinearTime.trainingIndex(s, steps: steps))
  }

  /// s of a network time of a linear path; nil on a β path.
  public func s(of time: NetworkTime) -> Double? { linearTime?.s(Double(time.value)) }

  /// The level at s in 0…1.
  ///
  /// - Precondition: the path is linear.
  public func level(s: Double) -> NoiseLevel {
    precondition(0...1 ~= s, "s = \(s) is not in 0…1")
    return NoiseLevel(time: networkTime(s: s), signal: 1 - s, spread: noiseScale * s)
  }

  /// The level that a network time stands for; of a β path the time is a whole number.
  ///
  /// - Precondition: `time` is in ``timeRange``.
  public func level(atNetworkTime time: Float) -> NoiseLevel {
    guard let linearTime else { return schedule.level(at: Int(time)) }
    let s = linearTime.s(Double(time))
    return NoiseLevel(time: networkTime(time), signal: 1 - s, spread: noiseScale * s)
  }

  /// A training sample's level: t uniform in 0…T−1 or s uniform in (0, 1] from one 64-bit number; logit-normal times from
  /// two (Box–Muller). Allocates nothing.
  package func level(drawnBy random: inout Philox) -> NoiseLevel {
    guard let linearTime else { return schedule.level(at: random.index(below: steps)) }
    let first = Double((random.next() >> 11) + 1) * 0x1p-53  // (0, 1]
    guard case .logitNormal(let mean, let deviation) = timeDistribution else { return level(s: first) }
    let second = Double(random.next() >> 11) * 0x1p-53
    let normal = (-2 * log(first)).squareRoot() * cos(2 * .pi * second)
    let logit = mean + deviation * normal
    return level(s: 1 / (1 + exp(-linearTime.direction * logit)))
  }

  // MARK: What an output means

  /// x̂_* = noised·x + output·out at what the network was asked at.
  public func clean(at time: NetworkTime) -> (noised: Double, output: Double) {
    guard let linearTime else { return PredictionCoefficients(schedule).clean(at: time.index) }
    guard target == .velocity else { return (0, 1) }
    return (1, -linearTime.direction * linearTime.s(Double(time.value)))
  }

  /// dx/ds = noised·x + output·out at s in 0…1: what a sampler integrates from 1 to 0.
  ///
  /// Of x̂_* it is (x − x̂_*)/max(s, t_floor), so that a last step from s < t_floor does not land on x̂_* (as JiT's does not).
  /// - Precondition: the path is linear.
  public func velocity(s: Double) -> (noised: Double, output: Double) {
    guard target == .x0 else { return (0, linear.direction) }
    let divisor = max(s, timeFloor)
    return (1 / divisor, -1 / divisor)
  }

  /// μ_θ of p_θ(x_{t−1} | x_t), = noised·x + output·out.
  ///
  /// - Precondition: the path has a posterior.
  public func mean(at t: Int) -> (noised: Double, output: Double) { PredictionCoefficients(schedule).mean(at: t) }

  // MARK: Training

  /// What the network is trained to say at a level, as clean·x_* + noise·ε, and the factor κ of the squared error.
  ///
  /// `epsilon`: ε · `x0`: x_* · `v`: √ᾱ_t ε − √(1−ᾱ_t) x_* · `velocity`: ς·ε − x_*, negated for `1-s` · `mean`:
  /// μ̃ = √ᾱ_{t−1} x_* + c₂ √(1−ᾱ_t) ε with κ = 1/b², b what multiplies ε in μ, so that its loss is that of ε̂. x0 with the loss
  /// target `velocity` compares (x_s − ·)/m, m = max(s, t_floor): x_* with κ = 1/m².
  func trainingTarget(_ level: NoiseLevel) -> TrainingTarget {
    switch target {
    case .epsilon: return TrainingTarget(clean: 0, noise: 1)
    case .x0:
      guard lossTarget == .velocity else { return TrainingTarget(clean: 1, noise: 0) }
      let divisor = self.divisor(level)
      return TrainingTarget(clean: 1, noise: 0, scale: 1 / (divisor * divisor))
    case .v: return TrainingTarget(clean: -level.spread, noise: level.signal)
    case .velocity: return TrainingTarget(clean: -linear.direction, noise: linear.direction * noiseScale)
    case .mean:
      let (t, tables) = (level.time.index, schedule.tables)
      let ofEpsilon = tables.meanCoefficients(t).epsilon
      return TrainingTarget(
        clean: tables.alphasCumprodPrevious[t].squareRoot(),
        noise: tables.posteriorNoisedCoefficient[t] * level.spread, scale: 1 / (ofEpsilon * ofEpsilon))
    }
  }

  /// The squared error of x̂_* over the squared error that the loss compares, times min(SNR, γ): no quotient of two numbers
  /// that vanish together.
  func minSNRWeight(_ gamma: Double, at level: NoiseLevel) -> Double {
    let (signal, spread) = (level.signal * level.signal, level.spread * level.spread)
    switch target {
    case .epsilon, .mean: return min(1, gamma * spread / signal)
    case .x0:
      let divisor = lossTarget == .velocity ? self.divisor(level) : 1
      return divisor * divisor * min(signal / spread, gamma)
    case .v: return min(signal, gamma * spread)  // spread is 1/(SNR + 1)
    case .velocity:  // spread/ς² is s²
      let scale = noiseScale * noiseScale
      return min(signal / scale, gamma * spread / scale)
    }
  }

  /// max(s, t_floor).
  private func divisor(_ level: NoiseLevel) -> Double { max(level.spread / noiseScale, timeFloor) }

  private var linear: LinearTime {
    guard let linearTime else { preconditionFailure("path \(path.rawValue) has no real times") }
    return linearTime
  }
}

/// The target clean·x_* + noise·ε at one level, and κ, the factor of the squared error.
struct TrainingTarget: Equatable, Sendable {
  let clean: Double
  let noise: Double
  var scale = 1.0

  @inline(__always)
  func value(_ x: Float, _ epsilon: Float) -> Double { clean * Double(x) + noise * Double(epsilon) }
}

extension NoiseSchedule {
  /// The process that the configuration describes, with these tables.
  public var process: DiffusionProcess { DiffusionProcess(self) }
}
