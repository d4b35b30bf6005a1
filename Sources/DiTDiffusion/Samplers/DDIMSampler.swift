import DiTTensor

// DDIM (Song, Meng & Ermon 2021, eqs. 12 and 16).
//
// - x'  = √ᾱ' x̂_* + √(1−ᾱ'−σ²) ε̂ + σ z,  σ = η √((1−ᾱ')/(1−ᾱ)) √(1−ᾱ/ᾱ')
// - ᾱ' is that of the next kept step; the last step goes to ᾱ' = 1, that is to x̂_* itself
// - matches diffusers' DDIMScheduler (epsilon, sample, v_prediction) where its stride is ours; with the steps of
//   `DiffusersScheduler` everywhere
// - x̂_* is not limited, unless a diffusers configuration asks for it (then ε̂ stays as it was); a variance half of the network's
//   output is not read

/// DDIM(η): η = 0 is deterministic and can be run backwards, η = 1 has the variance β̃ of DDPM.
public struct DDIMSampler: SamplingProcess, Equatable {
  public let schedule: RespacedSchedule
  public let evaluations: [NetworkTime]
  /// How much of β̃'s deviation is drawn anew in each step, 0…1.
  public let eta: Double
  /// How far from 0 x̂_* may lie; nil is anywhere.
  let limit: CleanLimit?

  /// - Throws: `DiTError` when η is not in 0…1 (above 1 the direction's coefficient can be imaginary).
  public init(_ schedule: RespacedSchedule, eta: Double = 0) throws(DiTError) {
    try self.init(schedule, eta: eta, limit: nil)
  }

  package init(_ schedule: RespacedSchedule, eta: Double, limit: CleanLimit?) throws(DiTError) {
    guard 0...1 ~= eta else { throw DiTError(option: "eta", expected: "0…1", found: "\(eta)") }
    self.schedule = schedule
    evaluations = schedule.evaluations
    self.eta = eta
    self.limit = limit
  }

  private init(_ other: DDIMSampler, on schedule: RespacedSchedule) {
    self.schedule = schedule
    evaluations = schedule.evaluations
    (eta, limit) = (other.eta, other.limit)
  }

  public func starting(at step: Int) -> DDIMSampler { DDIMSampler(self, on: schedule.starting(at: step)) }
  public func level(beforeStep step: Int) -> (signal: Double, spread: Double) { schedule.level(beforeStep: step) }

  public var stepCount: Int { schedule.count }
  public var variance: Variance { schedule.variance }
  public var memoryArrays: Int { limit?.scratchArrays ?? 0 }

  public func needsNoise(at evaluation: Int) -> Bool { deviation(schedule.count - 1 - evaluation) > 0 }

  /// σ of a kept step, 0 of one that ends at clean data.
  private func deviation(_ index: Int) -> Double {
    let current = schedule.tables.alphasCumprod[index]
    let next = schedule.tables.alphasCumprodPrevious[index]
    return eta * ((1 - next) / (1 - current)).squareRoot() * (1 - current / next).squareRoot()
  }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let index = schedule.count - 1 - evaluation
    let next = schedule.tables.alphasCumprodPrevious[index]
    let sigma = deviation(index)
    let direction = max(0, 1 - next - sigma * sigma).squareRoot()
    let (ofNoised, ofOutput) = schedule.combination(index, signal: next.squareRoot(), spread: direction)
    let clean = schedule.coefficients.clean(at: schedule.timesteps[index])

    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let noisy = needsNoise(at: evaluation)
    for n in 0..<shape.samples {
      let bound = limit?.bound(&memory, n * size..<(n + 1) * size) { i in
        abs(Float(clean.noised * Double(x[n * size + i]) + clean.output * Double(output[n * stride + i])))
      }
      for i in 0..<size {
        let at = n * size + i
        let (noised, out) = (Double(x[at]), Double(output[n * stride + i]))
        var value = ofNoised * noised + ofOutput * out
        if let bound {
          let estimate = clean.noised * noised + clean.output * out
          value += next.squareRoot() * (bound.limited(estimate) - estimate)
        }
        if noisy { value += sigma * Double(noise[at]) }
        x[at] = Float(value)
      }
    }
  }
}

/// DDIM at η = 0 run backwards: clean data becomes the noise that sampling would start from.
///
/// Step i goes from the level of the kept step below (clean data for the lowest) to its own: x_i = √ᾱ_i x̂ + √(1−ᾱ_i) ε̂
/// with x̂ = (x' − √(1−ᾱ') ε̂)/√ᾱ'. ε̂ is the network's at (x', τ_i), by the sampler's own conversion at τ_i, so that equal
/// networks in different predictions give equal noise, and where the network's ε̂ does not change from x' to x_i it is the
/// exact inverse. The round trip's error falls as S grows.
///
/// diffusers' DDIMInverseScheduler is the same for epsilon; its v and sample conversions take the level below.
public struct DDIMInversion: ReverseProcess, Equatable {
  public let schedule: RespacedSchedule
  public let evaluations: [NetworkTime]

  public init(_ schedule: RespacedSchedule) {
    self.schedule = schedule
    evaluations = schedule.evaluations.reversed()
  }

  public var stepCount: Int { schedule.count }
  public var variance: Variance { schedule.variance }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let current = schedule.tables.alphasCumprod[evaluation]
    let below = schedule.tables.alphasCumprodPrevious[evaluation]
    let ratio = (current / below).squareRoot()
    let ofEpsilon = (1 - current).squareRoot() - ratio * (1 - below).squareRoot()
    let epsilon = schedule.coefficients.epsilon(at: schedule.timesteps[evaluation])
    let (ofNoised, ofOutput) = (ratio + ofEpsilon * epsilon.noised, ofEpsilon * epsilon.output)
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    for n in 0..<shape.samples {
      for i in 0..<size {
        let at = n * size + i
        x[at] = Float(ofNoised * Double(x[at]) + ofOutput * Double(output[n * stride + i]))
      }
    }
  }
}
