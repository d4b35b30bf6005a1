// What diffusers' σ schedulers read from a saved configuration: the grid of DPM-Solver, UniPC and DEIS (whose timesteps are
// whole and leave the lowest out), that of Euler and Heun (whose timesteps are real), orders and kinds.

import DiTDiffusion
import DiTTensor
import Foundation

extension DiffusersScheduler {
  // MARK: Grids

  /// DPM-Solver, UniPC and DEIS.
  func upperGrid(
    _ name: SamplerName, on noise: NoiseSchedule, _ spacing: DiffusersSpacing, count: Int
  ) throws(DiTError) -> SolverGrid {
    if name != .deis { try require("final_sigmas_type", finalSigmasType, in: ["zero", "sigma_min"]) }
    try require("use_flow_sigmas", useFlowSigmas, in: [false])
    let endsClean = name != .deis && endsClean
    let spread = try spread(name)
    let bars = noise.alphasCumprod
    guard spread != .none else {
      let kept = try kept(name, of: noise.steps, spacing, count: count, last: try last(name, noise))
      let next = kept.dropFirst().map { bars[$0] } + [endsClean ? 1 : bars[0]]
      return SolverGrid(RespacedSchedule(noise, keeping: kept.reversed(), previous: next.reversed()))
    }
    let table = SigmaTable(alphasCumprod: bars)
    var (high, low) = (table.sigmas[noise.steps - 1], table.sigmas[0])
    if spread == .lu {
      (high, low) = (exp(table.logarithms[noise.steps - 1]), exp(table.logarithms[0]))
    } else {
      (high, low) = (sigmaMax ?? high, sigmaMin ?? low)
    }
    let sigmas = try checked(spread.sigmas(from: high, to: low, count: count))
    let isRounded = spread == .karras || spread == .lu
    let rounds = isRounded && !(name == .dpmpp && betaSchedule == DiffusersBetas.cosine.rawValue)
    let times = sigmas.map { sigma -> NetworkTime in
      let time = table.time(of: sigma)
      return NetworkTime(Int(rounds ? time.rounded(.toNearestOrEven) : time.rounded(.down)))
    }
    let end = endsClean ? 0 : name == .dpmpp ? table.sigmas[0] : sigmas[count - 1]
    return SolverGrid(
      times: times, sigmas: (sigmas + [end]).map { Double(Float($0)) }, prediction: noise.process.target,
      variance: noise.variance)
  }

  /// Euler, Euler ancestral and Heun, and what noise is multiplied by to start from.
  func realGrid(
    _ name: SamplerName, on noise: NoiseSchedule, _ spacing: DiffusersSpacing, count: Int
  ) throws(DiTError) -> (SolverGrid, startScale: Double) {
    let steps = noise.steps
    var times: [Double]
    switch spacing {
    case .linspace: times = evenly(from: 0, to: Double(steps - 1), count: count).reversed().map { Double(Float($0)) }
    default: times = try kept(name, of: steps, spacing, count: count).map { Double($0) }
    }
    let table = SigmaTable(alphasCumprod: noise.alphasCumprod)
    var sigmas = times.map(table.sigma(at:))
    var end = 0.0
    if name == .euler {
      try require("final_sigmas_type", finalSigmasType, in: ["zero", "sigma_min"])
      if !endsClean { end = table.sigmas[0] }
      try require("interpolation_type", interpolationType, in: ["linear", "log_linear"])
      if noise.configuration.prediction == .v { try require("timestep_type", timestepType, in: ["discrete"]) }
      if interpolationType == "log_linear" {
        // One level more than steps: the last step ends at the lowest.
        let logarithms = DiffusersBetas.linspace(
          Float(table.logarithms[steps - 1]), Float(table.logarithms[0]), count + 1)
        sigmas = logarithms.map { Double(Float(exp(Double($0)))) }
        end = sigmas[count]
      }
    }
    let spread = try spread(name)
    if spread != .none {
      if interpolationType == "log_linear", name == .euler { end = endsClean ? 0 : table.sigmas[0] }
      sigmas = try checked(
        spread.sigmas(from: sigmaMax ?? sigmas[0], to: sigmaMin ?? sigmas[sigmas.count - 1], count: count))
      times = sigmas.map(table.time(of:))
    }
    let levels = (sigmas.prefix(count) + [end]).map { Double(Float($0)) }
    let largest = Float(levels.max() ?? 0)
    let start = spacing == .leading ? (largest * largest + 1).squareRoot() : largest
    let grid = SolverGrid(
      times: times.map { NetworkTime(value: Float($0), index: min(steps - 1, max(0, Int($0.rounded())))) },
      sigmas: levels, prediction: noise.process.target, variance: noise.variance)
    return (grid, Double(start) / (levels[0] * levels[0] + 1).squareRoot())
  }

  /// How σ are spread, where the class reads that.
  func spread(_ name: SamplerName) throws(DiTError) -> SigmaSpread {
    guard [.dpmpp, .unipc, .deis, .euler, .heun].contains(name) else { return .none }
    let asked = [
      ("use_karras_sigmas", useKarrasSigmas), ("use_exponential_sigmas", useExponentialSigmas),
      ("use_beta_sigmas", useBetaSigmas),
    ].filter { $0.1 ?? false }.map(\.0)
    if asked.count > 1 {
      throw DiTError(scheduler: asked[1], expected: "false, as \(asked[0]) is true", found: "true")
    }
    if useKarrasSigmas ?? false { return .karras }
    if name == .dpmpp, useLuLambdas ?? false { return .lu }
    if useExponentialSigmas ?? false { return .exponential }
    return useBetaSigmas ?? false ? .beta : .none
  }

  /// Throws unless every σ is one.
  private func checked(_ sigmas: [Double]) throws(DiTError) -> [Double] {
    if let bad = sigmas.first(where: { !($0 > 0 && Float($0).isFinite) }) {
      let key = sigmaMin == nil ? "sigma_max" : "sigma_min"
      throw DiTError(scheduler: key, expected: "one that keeps every σ above 0", found: "\(bad)")
    }
    return sigmas
  }

  /// T, or where `lambda_min_clipped` ends the grid of DPM-Solver.
  private func last(_ name: SamplerName, _ noise: NoiseSchedule) throws(DiTError) -> Int {
    guard name == .dpmpp, let lambdaMinClipped else { return noise.steps }
    let clipped = noise.alphasCumprod.count { 0.5 * log($0 / (1 - $0)) < lambdaMinClipped }
    guard clipped < noise.steps else {
      throw DiTError(
        scheduler: "lambda_min_clipped", expected: "one below the λ of some training step", found: "\(lambdaMinClipped)"
      )
    }
    return noise.steps - clipped
  }

  private var endsClean: Bool { finalSigmasType ?? "zero" == "zero" }

  // MARK: Orders and kinds

  /// At least 1; DPM-Solver and DEIS take what is above 3 for 3.
  private func checkedOrder() throws(DiTError) -> Int {
    let order = solverOrder ?? 2
    guard order >= 1 else {
      throw DiTError(scheduler: "solver_order", expected: "1, 2 or 3", found: "\(order)")
    }
    return order
  }

  /// A word as the class that saved it has put it right, then as `name` does: each reads others' words as its own default.
  private func solverWord(_ name: SamplerName) -> String? {
    var word = solverType
    for reader in [sampler, name] {
      switch reader {
      case .dpmpp where ["logrho", "bh1", "bh2"].contains(word): word = "midpoint"
      case .deis where ["midpoint", "heun", "bh1", "bh2"].contains(word): word = "logrho"
      case .unipc where ["midpoint", "heun", "logrho"].contains(word): word = "bh2"
      default: break
      }
    }
    return word
  }

  private func algorithm(_ name: SamplerName) -> String? {
    var word = algorithmType
    for reader in [sampler, name] {
      switch reader {
      case .dpmpp where word == "deis": word = "dpmsolver++"
      case .deis where word == "dpmsolver" || word == "dpmsolver++": word = "deis"
      default: break
      }
    }
    return word
  }

  /// Which DPM-Solver.
  func solver() throws(DiTError) -> DPMSolver {
    let algorithm = algorithm(.dpmpp) ?? "dpmsolver++"
    try require("algorithm_type", algorithm, in: ["dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"])
    let rule = solverWord(.dpmpp) ?? "midpoint"
    try require("solver_type", rule, in: ["midpoint", "heun"])
    let form = algorithm.hasSuffix("++") ? MultistepForm.data : .noise
    if form == .noise, endsClean {
      throw DiTError(
        scheduler: "final_sigmas_type", expected: "sigma_min, as \(algorithm) cannot end at σ = 0", found: "zero")
    }
    if let varianceType, varianceType.hasPrefix("learned"), predictionType == "epsilon" {
      throw DiTError(
        scheduler: "variance_type",
        expected: "none, as diffusers then cuts the output at 3 channels, whatever the model has",
        found: varianceType)
    }
    return DPMSolver(
      form: form, isStochastic: algorithm.hasPrefix("sde"), rule: rule == "heun" ? .exact : .midpoint)
  }

  /// DPM-Solver's order at each step from the first.
  func solverOrders(_ count: Int) throws(DiTError) -> [Int] {
    let isLow = lowerOrderFinal ?? true && count < 15
    let orders = try orders(count, lowEnd: endsClean || eulerAtFinal ?? false || isLow, lowSecond: isLow)
    if algorithm(.dpmpp) == "sde-dpmsolver", orders.contains(3) {
      throw DiTError(
        scheduler: "solver_order", expected: "1 or 2, as sde-dpmsolver has no third", found: "\(solverOrder ?? 2)")
    }
    return orders
  }

  /// DEIS's.
  func deisOrders(_ count: Int) throws(DiTError) -> [Int] {
    try require("algorithm_type", algorithm(.deis), in: ["deis"])
    try require("solver_type", solverWord(.deis), in: ["logrho"])
    let isLow = lowerOrderFinal ?? true && count < 15
    return try orders(count, lowEnd: isLow, lowSecond: isLow)
  }

  private func orders(_ count: Int, lowEnd: Bool, lowSecond: Bool) throws(DiTError) -> [Int] {
    let order = min(try checkedOrder(), 3)
    return (0..<count).map { e in
      if e == count - 1, lowEnd { return 1 }
      return min(order, e + 1, e == count - 2 && lowSecond ? 2 : 3)
    }
  }

  /// Which UniPC.
  func uniPCKind() throws(DiTError) -> ExponentialIntegrator.Kind {
    let word = solverWord(.unipc) ?? "bh2"
    try require("solver_type", word, in: ["bh1", "bh2"])
    try require("use_dynamic_shifting", useDynamicShifting, in: [false])
    if let shiftTerminal {
      throw DiTError(scheduler: "shift_terminal", expected: "none without a flow", found: "\(shiftTerminal)")
    }
    if unread.contains(where: { $0.key == "solver_p" }) {
      throw DiTError(scheduler: "solver_p", expected: "null", found: "another predictor")
    }
    return ExponentialIntegrator.Kind(form: predictX0 ?? true ? .data : .noise, isFirst: word == "bh1")
  }

  /// UniPC's.
  func uniPCOrders(_ count: Int) throws(DiTError) -> [Int] {
    let order = try checkedOrder()
    guard order <= 3 else {
      throw DiTError(scheduler: "solver_order", expected: "1, 2 or 3", found: "\(order)")
    }
    let isLowAtEnd = lowerOrderFinal ?? true
    // An order above 1, or a noise prediction, through σ = 0 divides by an infinite step.
    if endsClean {
      if order > 1, count > 1 { try require("lower_order_final", lowerOrderFinal, in: [true]) }
      if !(predictX0 ?? true) {
        throw DiTError(
          scheduler: "final_sigmas_type", expected: "sigma_min, as predict_x0 is false", found: "zero")
      }
    }
    return (0..<count).map { min(order, $0 + 1, isLowAtEnd ? count - $0 : order) }
  }
}
