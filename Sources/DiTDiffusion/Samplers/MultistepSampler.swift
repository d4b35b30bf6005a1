// Solvers whose step is linear in x, in what the network said at the last evaluations, and in noise. Which solver it is stands
// in the weights alone:
//
// - DPM-Solver++ and DPM-Solver, of order 1 to 3, deterministic or as an SDE: DPMSolverWeights.swift
// - DEIS: DEISWeights.swift
// - Euler and Euler ancestral: EulerWeights.swift
//
// One evaluation per step. A variance half of the output is not read.

/// A linear multi-step solver on a β path.
public struct MultistepSampler: SamplingProcess, Equatable {
  public let evaluations: [NetworkTime]
  public let variance: Variance
  public let startScale: Double
  private let grid: SolverGrid
  private let solver: MultistepSolver
  private let orders: [Int]?
  private let weights: [MultistepWeights]
  private let form: MultistepForm
  private let limit: CleanLimit?
  /// Whether every step draws noise, as diffusers' stochastic schedulers do, also where its weight is 0.
  private let drawsNoise: Bool
  /// How many earlier outputs are kept.
  private let history: Int

  /// - Parameters:
  ///   - orders: of each step, see ``MultistepSolver/weights(_:orders:)``.
  ///   - limit: of x̂_*; m then follows from the limited x̂_*.
  ///   - startScale: what N(0, 1) noise is multiplied by.
  package init(
    _ grid: SolverGrid, _ solver: MultistepSolver, orders: [Int]? = nil, limit: CleanLimit? = nil,
    drawsNoise: Bool = false, startScale: Double = 1
  ) {
    evaluations = grid.times
    variance = grid.variance
    self.grid = grid
    self.solver = solver
    self.orders = orders
    weights = solver.weights(grid, orders: orders)
    form = solver.form
    self.limit = limit
    self.drawsNoise = drawsNoise
    self.startScale = startScale
    history = weights.contains { $0.older != 0 } ? 2 : weights.contains { $0.previous != 0 } ? 1 : 0
  }

  /// Whether every weight is a number.
  package var isFinite: Bool { weights.allSatisfy(\.isFinite) }

  public func starting(at step: Int) -> MultistepSampler {
    MultistepSampler(
      grid.starting(at: step), solver, orders: orders.map { MultistepSolver.restarted($0, at: step) }, limit: limit,
      drawsNoise: drawsNoise, startScale: startScale)
  }

  public func level(beforeStep step: Int) -> (signal: Double, spread: Double) { grid.level(beforeStep: step) }

  /// m_{e−1}, m_{e−2}, and room to sort in.
  public var memoryArrays: Int { history + (limit?.scratchArrays ?? 0) }
  public func needsNoise(at evaluation: Int) -> Bool { drawsNoise }

  public func cleanReading(at evaluation: Int) -> (noised: Double, output: Double)? {
    (grid.clean[evaluation].noised, grid.clean[evaluation].output)
  }

  public func advance(
    _ evaluation: Int, x: inout MutableSpan<Float>, shape: BatchShape, output: Span<Float>, noise: Span<Float>,
    memory: inout MutableSpan<Float>
  ) {
    check(evaluation, x.count, shape, output.count, noise.count, memory.count)
    let reading = (form == .data ? grid.clean : grid.epsilon)[evaluation]
    let (clean, level) = (grid.clean[evaluation], grid.levels[evaluation])
    let step = weights[evaluation]
    let size = shape.elementsPerSample
    let stride = output.count / shape.samples
    for n in 0..<shape.samples {
      let first = n * size
      var bound: CleanLimit.Bound?
      if let limit {
        let scratch = history * shape.count + first
        bound = limit.bound(&memory, scratch..<scratch + size) { i in
          abs(Float(clean.noised * Double(x[first + i]) + clean.output * Double(output[n * stride + i])))
        }
      }
      for i in 0..<size {
        let at = first + i
        let (value, out) = (Double(x[at]), Double(output[n * stride + i]))
        var current: Double
        if let bound {
          current = bound.limited(clean.noised * value + clean.output * out)
          if form == .noise { current = (value - level.signal * current) / level.spread }
        } else {
          current = reading.noised * value + reading.output * out
        }
        var next = step.noised * value + step.current * current
        if step.previous != 0 { next += step.previous * Double(memory[at]) }
        if step.older != 0 { next += step.older * Double(memory[shape.count + at]) }
        if step.noise != 0 { next += step.noise * Double(noise[at]) }
        if history > 1 { memory[shape.count + at] = memory[at] }
        if history > 0 { memory[at] = Float(current) }
        x[at] = Float(next)
      }
    }
  }
}

/// Which linear multi-step solver.
package enum MultistepSolver: Equatable, Sendable {
  case dpm(DPMSolver)
  case deis
  case euler(isAncestral: Bool)

  /// What m is.
  var form: MultistepForm {
    switch self {
    case .dpm(let solver): solver.form
    case .deis: .noise
    case .euler: .data
    }
  }

  /// The weights of every step.
  ///
  /// - Parameter orders: 1 to 3 a step, at most one more than the steps before it; nil is 1 for the first, which has no
  ///   history, and the last, where λ ends at ∞, else 2. Euler's is 1.
  func weights(_ grid: SolverGrid, orders: [Int]?) -> [MultistepWeights] {
    switch self {
    case .dpm(let solver): solver.weights(grid, orders: orders)
    case .deis: DEISWeights.weights(grid, orders: orders)
    case .euler(let isAncestral): EulerWeights.weights(grid, isAncestral: isAncestral)
    }
  }

  /// The orders from a step on: none needs more outputs than there are since.
  static func restarted(_ orders: [Int], at step: Int) -> [Int] {
    orders.dropFirst(step).enumerated().map { min($1, $0 + 1) }
  }
}

/// What a solver takes the network's output for.
package enum MultistepForm: Equatable, Sendable {
  /// m is x̂_*.
  case data
  /// m is ε̂.
  case noise
}

/// A step: noised·x + current·m_e + previous·m_{e−1} + older·m_{e−2} + noise·z.
package struct MultistepWeights: Equatable, Sendable {
  package var noised: Double
  package var current: Double
  package var previous = 0.0
  package var older = 0.0
  package var noise = 0.0

  package var isFinite: Bool { (noised + current + previous + older + noise).isFinite }

  /// All of them times a factor.
  func scaled(_ factor: Double) -> MultistepWeights {
    MultistepWeights(
      noised: noised * factor, current: current * factor, previous: previous * factor, older: older * factor,
      noise: noise * factor)
  }
}
