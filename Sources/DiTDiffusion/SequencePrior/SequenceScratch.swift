// Where things lie while the sequence loss is computed.

import DiTKernels

/// A grid as the loss walks it.
struct SequenceLayout: Sendable {
  /// n.
  let patchElements: Int
  /// Where each patch's first element lies in an image, row-major.
  let origins: [Int]
  /// Where a patch's elements lie from there.
  let offsets: [Int]
  /// The patches of each kind, ascending.
  let tokens: [[Int]]
  /// How far before a patch of each kind its neighbors stand.
  let distances: [[Int]]

  init(_ grid: PatchGrid) {
    patchElements = grid.patchElements
    origins = (0..<grid.tokens).map(grid.origin(of:))
    offsets = grid.patchOffsets
    tokens = SequenceContext.allCases.map { kind in (0..<grid.tokens).filter { grid.context(of: $0) == kind } }
    distances = SequenceContext.allCases.map { kind in kind.neighbors.map(grid.distance(to:)) }
  }
}

/// The memory of the loss, for up to `samples` samples and `rows` patches at a time.
struct SequenceScratch {
  /// Patches that are conditioned at a time: 44 MB for n = 768.
  private static let rowsAtATime = 512

  let samples, rows: Int
  private let tokens: Int
  /// z and μ_θ less the prior's mean, (samples, L, n).
  var sequence, means: [Double]
  /// The samples that have a term, the first `activeCount`; (samples).
  private(set) var active: [Int]
  private(set) var activeCount = 0
  /// diag S⁻¹, (samples, n), and log det S, (samples), of the kind at hand.
  var diagonals, logDeterminants: [Double]
  /// w_t KL/n, (samples, L), and their means, (samples).
  var patches: [Double]
  private(set) var losses: [Double]
  /// (rows).
  var signals, energies: [Double]
  /// (rows, 4n).
  var neighbors, projected: [Double]
  /// (rows, 5n).
  var spectral: [Double]
  /// (rows, n).
  var residuals: [Double]

  init(_ grid: PatchGrid, samples: Int) {
    let n = grid.patchElements
    tokens = grid.tokens
    self.samples = samples
    rows = min(samples * tokens, Self.rowsAtATime)
    let zeros = { (count: Int) in [Double](repeating: 0, count: count) }
    (sequence, means) = (zeros(samples * tokens * n), zeros(samples * tokens * n))
    active = [Int](repeating: 0, count: samples)
    (diagonals, logDeterminants) = (zeros(samples * n), zeros(samples))
    (patches, losses) = (zeros(samples * tokens), zeros(samples))
    (signals, energies) = (zeros(rows), zeros(rows))
    (neighbors, projected) = (zeros(rows * 4 * n), zeros(rows * 4 * n))
    (spectral, residuals) = (zeros(rows * 5 * n), zeros(rows * n))
  }

  /// A batch without a term so far.
  mutating func begin(_ samples: Int) {
    activeCount = 0
    for i in 0..<samples * tokens { patches[i] = 0 }
  }

  mutating func activate(_ sample: Int) {
    active[activeCount] = sample
    activeCount += 1
  }

  /// The mean over a sample's patches.
  mutating func finish(_ sample: Int) {
    var sum = 0.0
    for i in sample * tokens..<(sample + 1) * tokens { sum += patches[i] }
    losses[sample] = sum / Double(tokens)
  }
}
