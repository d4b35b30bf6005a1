// DDIM (Song, Meng & Ermon 2021, eqs. 12 and 16).
//
// - x̂_* = (x − √(1−ᾱ) ε̂)/√ᾱ, not clipped
// - x'  = √ᾱ' x̂_* + √(1−ᾱ'−σ²) ε̂ + σ z,  σ = η √((1−ᾱ')/(1−ᾱ)) √(1−ᾱ/ᾱ')
// - ᾱ' is that of the next kept step; the last step goes to ᾱ' = 1, that is to x̂_* itself
// - a variance half of the network's output is not read

/// DDIM(η): η = 0 is deterministic and can be run backwards, η = 1 has the variance β̃ of DDPM.
public struct DDIMSampler: ReverseProcess, Equatable {
  public let schedule: RespacedSchedule
  /// How much of β̃'s deviation is drawn anew in each step, 0…1.
  public let eta: Double

  /// - Throws: `DiffusionError` when η is not in 0…1 (above 1 the direction's coefficient can be imaginary).
  public init(_ schedule: RespacedSchedule, eta: Double = 0) throws(DiffusionError) {
    guard 0...1 ~= eta else { throw DiffusionError("eta", expected: "0…1", found: "\(eta)") }
    self.schedule = schedule
    self.eta = eta
  }

  public var timesteps: [Int] { schedule.timesteps }
  public var variance: Variance { schedule.variance }

  public func needsNoise(at index: Int) -> Bool { index > 0 && eta > 0 }

  public func step(
    _ index: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>
  ) {
    check(index, x.count, shape, output.count, noise.count)
    let current = schedule.tables.alphasCumprod[index]
    let next = schedule.tables.alphasCumprodPrevious[index]
    let sigma = eta * ((1 - next) / (1 - current)).squareRoot() * (1 - current / next).squareRoot()
    let ofX = (next / current).squareRoot()
    let direction = max(0, 1 - next - sigma * sigma).squareRoot()
    let ofEpsilon = direction - ofX * (1 - current).squareRoot()

    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    let noisy = needsNoise(at: index)
    for n in 0..<shape.samples {
      for i in 0..<size {
        let at = n * size + i
        var value = ofX * Double(x[at]) + ofEpsilon * Double(output[n * stride + i])
        if noisy { value += sigma * Double(noise[at]) }
        x[at] = Float(value)
      }
    }
  }

  /// One step backwards, towards noise: from the level of the kept step below (clean data for index 0) to that of `index`.
  ///
  /// x = √ᾱ x̂_* + √(1−ᾱ) ε̂ with x̂_* = (x' − √(1−ᾱ') ε̂)/√ᾱ': given the same ε̂, the exact inverse of `step` at η = 0,
  /// whatever η is. The network is asked at the timestep of `index`, with the x of the level below.
  /// - Parameters:
  ///   - index: 0…S−1; a whole run goes upwards.
  ///   - x: (N, C, H, W), replaced.
  ///   - output: the network's, (N, C', H, W).
  public func invertStep(_ index: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>) {
    check(index, x.count, shape, output.count, nil)
    let current = schedule.tables.alphasCumprod[index]
    let below = schedule.tables.alphasCumprodPrevious[index]
    let ofX = (current / below).squareRoot()
    let ofEpsilon = (1 - current).squareRoot() - ofX * (1 - below).squareRoot()
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    for n in 0..<shape.samples {
      for i in 0..<size {
        let at = n * size + i
        x[at] = Float(ofX * Double(x[at]) + ofEpsilon * Double(output[n * stride + i]))
      }
    }
  }
}
