// β_t and ᾱ_t of all T training steps. Index t = 0 is the least noisy.

import DiTTensor
import Foundation

/// β_t, ᾱ_t and the posterior tables of all T steps, in Double.
public struct NoiseSchedule: Equatable, Sendable {
  public let configuration: DiffusionConfiguration
  /// β, ᾱ and the posterior, indexed by t.
  public let tables: PosteriorTables

  public var steps: Int { configuration.steps }
  public var variance: Variance { configuration.variance }
  public var betas: [Double] { tables.betas }
  public var alphasCumprod: [Double] { tables.alphasCumprod }

  /// The longest chain accepted, so that a mistyped number cannot ask for gigabytes of tables.
  public static let maximumSteps = 1_000_000

  /// The schedule of a configuration.
  ///
  /// - Throws: `DiTError` when T is not in 1…1,000,000, a β is not inside (0, 1), ᾱ_{T−1} vanishes in Double, or
  ///   path, prediction, loss, time and scale cannot be had together.
  public init(_ configuration: DiffusionConfiguration) throws(DiTError) {
    let steps = configuration.steps
    guard 1...Self.maximumSteps ~= steps else {
      throw DiTError(option: "diffusion.steps", expected: "1…\(Self.maximumSteps)", found: "\(steps)")
    }
    let betas = try Self.betas(configuration)

    var product = 1.0
    let alphasCumprod = betas.map { beta in
      product *= 1 - beta
      return product
    }
    guard product >= .leastNormalMagnitude else {
      throw DiTError(
        option: "diffusion.beta_end", expected: "a product of 1−β over \(steps) steps above 0",
        found: "\(configuration.betaEnd)")
    }
    try configuration.checkProcess()
    self.configuration = configuration
    tables = PosteriorTables(alphasCumprod: alphasCumprod, betas: betas)
  }

  /// The schedule of known tables: T of β and ᾱ, the latter decreasing inside (0, 1). β in `configuration` are not read.
  package init(_ configuration: DiffusionConfiguration, betas: [Double], alphasCumprod: [Double]) {
    precondition(
      betas.count == configuration.steps && alphasCumprod.count == configuration.steps,
      "\(betas.count) β and \(alphasCumprod.count) ᾱ for \(configuration.steps) steps")
    self.configuration = configuration
    tables = PosteriorTables(alphasCumprod: alphasCumprod, betas: betas)
  }

  private static func betas(_ configuration: DiffusionConfiguration) throws(DiTError) -> [Double] {
    let steps = configuration.steps
    if configuration.schedule == .cosine {
      return (0..<steps).map { cosineBeta($0, of: steps) }
    }
    let scale = 1000 / Double(steps)
    let start = try checked(configuration.betaStart, scale, "diffusion.beta_start", steps)
    let end = try checked(configuration.betaEnd, scale, "diffusion.beta_end", steps)
    if configuration.schedule == .scaledLinear {
      return evenly(from: start.squareRoot(), to: end.squareRoot(), count: steps).map { $0 * $0 }
    }
    return evenly(from: start, to: end, count: steps)
  }

  /// β·1000/T, when it lies inside (0, 1) also after 1−β is rounded.
  private static func checked(
    _ beta: Double, _ scale: Double, _ name: String, _ steps: Int
  ) throws(DiTError) -> Double {
    let scaled = beta * scale
    guard 1 - scaled > 0 && 1 - scaled < 1 else {
      throw DiTError(
        option: name, expected: "a value whose product with 1000/\(steps) lies inside (0, 1)",
        found: "\(beta) (\(scaled))")
    }
    return scaled
  }

  /// β_t of `cosine`.
  package static func cosineBeta(_ t: Int, of steps: Int) -> Double {
    min(1 - cosine(t + 1, of: steps) / cosine(t, of: steps), 0.999)
  }

  /// cos²((t/T + 0.008)/1.008 · π/2).
  private static func cosine(_ step: Int, of steps: Int) -> Double {
    let value = cos((Double(step) / Double(steps) + 0.008) / 1.008 * .pi / 2)
    return value * value
  }

  private static func evenly(from start: Double, to end: Double, count: Int) -> [Double] {
    guard count > 1 else { return [start] }
    let stride = (end - start) / Double(count - 1)
    return (0..<count).map { $0 == count - 1 ? end : start + Double($0) * stride }
  }
}
