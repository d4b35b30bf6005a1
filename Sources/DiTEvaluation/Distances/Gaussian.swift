import DiTDistributed
import DiTKernels
import DiTLinearAlgebra
import DiTTensor

/// Mean and covariance of a set: the Gaussian that the Fréchet distance sees.
public struct Statistics: Equatable, Sendable {
  /// What errors call it.
  public let name: String
  /// μ, (d).
  public let mean: [Double]
  /// Σ, (d, d), symmetric.
  public let covariance: [Double]
  /// What errors call the covariance: its key in a file.
  let covarianceKey: String

  /// The largest number of elements of a matrix that is made here: 2 GiB.
  static let largestMatrix = 1 << 28

  /// Beyond this, products of two covariances might overflow.
  private static let largestNumber = 1e30

  /// Given numbers, as those of a file.
  ///
  /// - Parameters:
  ///   - name: what errors call them.
  ///   - mean: μ, (d).
  ///   - covariance: Σ, (d, d).
  ///   - keys: what errors call both, as the keys of a file.
  /// - Throws: `DiTError` unless all are finite and at most 1e30, and Σ is symmetric to rounding.
  public init(
    name: String, mean: [Double], covariance: [Double],
    keys: (mean: String, covariance: String) = ("mu", "sigma")
  ) throws(DiTError) {
    let d = mean.count
    precondition(covariance.count == d * d, "a covariance of \(covariance.count) elements for \(d) means")
    guard mean.allSatisfy({ abs($0) <= Self.largestNumber }) else { throw Self.notFinite(name, keys.mean) }
    guard covariance.allSatisfy({ abs($0) <= Self.largestNumber }) else { throw Self.notFinite(name, keys.covariance) }
    let largest = (0..<d).reduce(0) { max($0, abs(covariance[$1 * d + $1])) }
    for i in 0..<d {
      for j in 0..<i where abs(covariance[i * d + j] - covariance[j * d + i]) > 1e-6 * largest {
        throw DiTError(
          set: name, .entry(keys.covariance), expected: "a symmetric matrix",
          found: "\(covariance[i * d + j]) at (\(i), \(j)) and \(covariance[j * d + i]) at (\(j), \(i))")
      }
    }
    (self.name, self.mean, self.covariance) = (name, mean, covariance)
    covarianceKey = keys.covariance
  }

  private static func notFinite(_ name: String, _ part: String) -> DiTError {
    DiTError(set: name, .entry(part), expected: "finite numbers, at most 1e30", found: "others")
  }

  /// Those of a set, with n−1; the set is read twice, in blocks.
  ///
  /// - Parameters:
  ///   - set: the samples.
  ///   - context: where to run.
  ///   - group: processes that share the work; each gets the same.
  /// - Throws: `DiTError` for fewer than two samples, or a covariance beyond 2 GiB.
  public init(
    of set: SampleSet, on context: ComputeContext, group: any Communicator = SingleProcess()
  ) throws(DiTError) {
    try self.init(of: set, weights: nil, on: context, group)
  }

  init(
    of set: SampleSet, weights: [Double]?, on context: ComputeContext, _ group: any Communicator
  ) throws(DiTError) {
    try set.requireTwo()
    let d = set.depth
    guard d <= Self.largestMatrix / d else {
      throw DiTError(
        set: set.name, expected: "at most 16,384 numbers per sample, or fewer samples than numbers", found: "\(d)")
    }
    let mean = try set.mean(weights: weights, group)
    let scale = 1 / Double(set.count - 1).squareRoot()
    var gram = try PartialSums(set, group)(d * d) { blocks, gram throws(DiTError) in
      try set.forEachBlock(blocks) { start, elements throws(DiTError) in
        let rows = elements.count / d
        let centered = centeredRows(elements, start, mean: mean, weights: weights, scale: scale)
        var span = gram.mutableSpan
        context.addGram(&span, centered.span, rows: rows, columns: d)
      }
    }
    for i in 0..<d { for j in 0..<i { gram[i * d + j] = gram[j * d + i] } }
    (name, self.mean, covariance, covarianceKey) = (set.name, mean, gram, "sigma")
  }
}

/// A Gaussian as a factor of its covariance: Σ = FᵀF, with no more rows than Σ has rank.
///
/// A set of no more samples than coordinates is its own factor, (x−μ)/√(n−1); otherwise F = diag(√λ) E from Σ's spectrum,
/// without the eigenvalues that are not above rounding, d·2⁻⁵²·λ_max.
struct Gaussian: Sendable {
  let mean: [Double]
  /// tr Σ.
  let trace: Double
  /// Rows of F.
  let rank: Int
  /// F, (rank, d).
  let factor: [Double]

  /// - Parameter group: processes that share the work of a large set.
  init(
    of set: SampleSet, weights: [Double]? = nil, on context: ComputeContext, _ group: any Communicator = SingleProcess()
  ) throws(DiTError) {
    let d = set.depth
    guard set.count <= d else {
      try self.init(Statistics(of: set, weights: weights, on: context, group), on: context)
      return
    }
    try set.requireTwo()
    guard set.count <= Statistics.largestMatrix / d else {
      throw DiTError(
        set: set.name, expected: "at most \(Statistics.largestMatrix / d) samples of \(d) numbers",
        found: "\(set.count)")
    }
    let mean = try set.mean(weights: weights)
    let scale = 1 / Double(set.count - 1).squareRoot()
    var factor: [Double] = []
    factor.reserveCapacity(set.count * d)
    try set.forEachBlock { start, elements throws(DiTError) in
      factor += centeredRows(elements, start, mean: mean, weights: weights, scale: scale)
    }
    self.init(mean: mean, trace: factor.reduce(0) { $0 + $1 * $1 }, rank: set.count, factor: factor)
  }

  init(_ statistics: Statistics, on context: ComputeContext) throws(DiTError) {
    let d = statistics.mean.count
    let trace = (0..<d).reduce(0) { $0 + statistics.covariance[$1 * d + $1] }
    let matrix = try statistics.diagonalized(on: context)
    let largest = matrix.eigenvalues.last ?? 0
    guard let smallest = matrix.eigenvalues.first, smallest >= -1e-6 * abs(largest) else {
      throw DiTError(
        set: statistics.name, .entry(statistics.covarianceKey), expected: "a covariance, with no negative eigenvalue",
        found: "\(matrix.eigenvalues.first ?? 0) beside \(largest)")
    }
    let first = matrix.eigenvalues.firstIndex { $0 > Double(d) * 0x1p-52 * largest } ?? d
    var factor = Array(matrix.elements[(first * d)...])
    for row in first..<d {
      let root = matrix.eigenvalues[row].squareRoot()
      for i in (row - first) * d..<(row - first + 1) * d { factor[i] *= root }
    }
    self.init(mean: statistics.mean, trace: trace, rank: d - first, factor: factor)
  }

  private init(mean: [Double], trace: Double, rank: Int, factor: [Double]) {
    (self.mean, self.trace, self.rank, self.factor) = (mean, trace, rank, factor)
  }
}

extension Statistics {
  /// The spectrum of Σ.
  func diagonalized(on context: ComputeContext) throws(DiTError) -> SymmetricMatrix {
    var matrices = [SymmetricMatrix(order: mean.count, elements: covariance)]
    guard context.diagonalize(&matrices) else {
      throw DiTError(
        set: name, .entry(covarianceKey), expected: "a matrix whose eigenvalues converge", found: "one that does not")
    }
    return matrices[0]
  }
}

extension SampleSet {
  /// - Throws: `DiTError` for a set without a covariance.
  func requireTwo() throws(DiTError) {
    guard count >= 2 else { throw DiTError(set: name, expected: "at least 2 samples", found: "\(count)") }
  }

  /// μ, (d).
  ///
  /// - Parameters:
  ///   - weights: how often each sample counts; their sum is N.
  ///   - group: processes that share the work.
  func mean(weights: [Double]? = nil, _ group: any Communicator = SingleProcess()) throws(DiTError) -> [Double] {
    let d = depth
    let sums = try PartialSums(self, group)(d) { blocks, sums throws(DiTError) in
      try forEachBlock(blocks) { start, elements throws(DiTError) in
        for row in 0..<elements.count / d {
          let weight = weights?[start + row] ?? 1
          for i in 0..<d { sums[i] += weight * Double(elements[row * d + i]) }
        }
      }
    }
    let n = Double(count)
    return sums.map { $0 / n }
  }
}

/// √w (x − μ) · scale for the rows of a block, (rows, d).
private func centeredRows(
  _ elements: [Float], _ start: Int, mean: [Double], weights: [Double]?, scale: Double
) -> [Double] {
  let d = mean.count
  var rows = [Double](repeating: 0, count: elements.count)
  for row in 0..<elements.count / d {
    let factor = (weights?[start + row]).map { $0.squareRoot() * scale } ?? scale
    for i in 0..<d { rows[row * d + i] = (Double(elements[row * d + i]) - mean[i]) * factor }
  }
  return rows
}
