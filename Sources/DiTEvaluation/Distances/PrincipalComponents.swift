import DiTDistributed
import DiTKernels
import DiTLinearAlgebra
import DiTTensor

/// The K directions in which a reference varies most: y = V (x − μ), rows of V the eigenvectors of its covariance with the
/// largest eigenvalues.
struct PrincipalComponents: Sendable {
  let mean: [Double]
  /// V, (K, d).
  let directions: [Double]
  /// λ, (K), descending.
  let variances: [Double]
  /// Σ of all eigenvalues.
  let total: Double

  var count: Int { variances.count }

  /// The share of the variance that the directions hold.
  var explained: Double { total > 0 ? variances.reduce(0, +) / total : 1 }

  private init(mean: [Double], directions: [Double], variances: [Double], total: Double) {
    (self.mean, self.directions, self.variances, self.total) = (mean, directions, variances, total)
  }

  /// From a covariance.
  init(_ statistics: Statistics, count: Int, on context: ComputeContext) throws(DiTError) {
    let d = statistics.mean.count
    let matrix = try statistics.diagonalized(on: context)
    let kept = (0..<count).map { d - 1 - $0 }
    self.init(
      mean: statistics.mean, directions: kept.flatMap { matrix.elements[$0 * d..<($0 + 1) * d] },
      variances: kept.map { max(0, matrix.eigenvalues[$0]) },
      total: (0..<d).reduce(0) { $0 + statistics.covariance[$1 * d + $1] })
  }

  /// From a set. Where it has no more samples than coordinates, through the matrix of their inner products, F Fᵀ, whose
  /// eigenvectors u give Fᵀu/√λ.
  ///
  /// - Parameter group: processes that share the work of a large set.
  init(of set: SampleSet, count: Int, on context: ComputeContext, _ group: any Communicator) throws(DiTError) {
    guard set.count <= set.depth else {
      try self.init(Statistics(of: set, on: context, group: group), count: count, on: context)
      return
    }
    let (gaussian, n, d) = (try Gaussian(of: set, on: context), set.count, set.depth)
    guard count < n else {
      throw DiTError(set: set.name, expected: "more than \(count) samples to fit \(count) components", found: "\(n)")
    }
    var gram = [Double](repeating: 0, count: n * n)
    var span = gram.mutableSpan
    context.product(&span, gaussian.factor.span, transposed: gaussian.factor.span, rows: n, columns: n, depth: d)
    var matrices = [SymmetricMatrix(order: n, elements: gram)]
    guard context.diagonalize(&matrices) else {
      throw DiTError(set: set.name, expected: "samples whose eigenvalues converge", found: "others")
    }
    let values = matrices[0].eigenvalues
    let kept = (0..<count).map { n - 1 - $0 }
    guard let last = kept.last, values[last] > Double(n) * 0x1p-52 * values[n - 1] else {
      throw DiTError(
        set: set.name, expected: "samples that vary in at least \(count) directions", found: "fewer")
    }
    let vectors = kept.flatMap { k in matrices[0].elements[k * n..<(k + 1) * n].map { $0 / values[k].squareRoot() } }
    var directions = [Double](repeating: 0, count: count * d)
    var target = directions.mutableSpan
    context.product(&target, vectors.span, gaussian.factor.span, rows: count, columns: d, depth: n)
    self.init(
      mean: gaussian.mean, directions: directions, variances: kept.map { values[$0] }, total: gaussian.trace)
  }

  /// y for every sample, in memory.
  func project(_ set: SampleSet, on context: ComputeContext) throws(DiTError) -> SampleSet {
    let d = set.depth
    var projected: [Float] = []
    projected.reserveCapacity(set.count * count)
    try set.forEachBlock { _, elements throws(DiTError) in
      let rows = elements.count / d
      var centered = [Double](repeating: 0, count: elements.count)
      for row in 0..<rows { for i in 0..<d { centered[row * d + i] = Double(elements[row * d + i]) - mean[i] } }
      var block = [Double](repeating: 0, count: rows * count)
      var span = block.mutableSpan
      context.product(&span, centered.span, transposed: directions.span, rows: rows, columns: count, depth: d)
      projected += block.map { Float($0) }
    }
    return SampleSet(
      name: set.name, shape: [count], store: FloatStore(depth: count, elements: projected), labels: set.labels)
  }

  /// The reference's own statistics in these coordinates: mean 0, covariance diag(λ).
  func projectedStatistics(name: String) throws(DiTError) -> Statistics {
    var covariance = [Double](repeating: 0, count: count * count)
    for k in 0..<count { covariance[k * count + k] = variances[k] }
    return try Statistics(name: name, mean: [Double](repeating: 0, count: count), covariance: covariance)
  }
}
