// What the prior's conditionals need, for all noise levels at once. With K the neighbors that exist, i the target,
//
//   C = Σ_KK = Eᵀ diag(λ) E                        the context
//   J = Σ_(K,i)(K,i) = Fᵀ diag(ω) F                the context with the target;  W = F's columns of the target
//
// at signal level a (= ᾱ_{t−1}) the conditional N(m, S) of the target given its neighbors' deviation c from their mean is
//
//   m = √a μ_i + a G diag( 1/(aλ + 1−a) ) E c       G = Σ_iK Eᵀ
//   S⁻¹ = Wᵀ diag( 1/(aω + 1−a) ) W                 the target's block of the inverse of aJ + (1−a)I
//   log det S = Σ log(aω + 1−a) − Σ log(aλ + 1−a)
//
// so that no level needs a factorization or a table of its own, and S ⪰ (1−a) I however singular Σ is.

import DiTKernels
import DiTLinearAlgebra
import DiTTensor
import Foundation

/// The tables of one kind of patch.
struct SequenceTable: Sendable {
  let neighbors: [SequenceNeighbor]
  /// λ, (k n), for k neighbors; 0 or more.
  let contextValues: [Double]
  /// E, (k n, k n), an eigenvector a row.
  let contextVectors: [Double]
  /// G, (n, k n).
  let regression: [Double]
  /// ω, ((k+1) n), 0 or more.
  let jointValues: [Double]
  /// W, ((k+1) n, n).
  let targetVectors: [Double]

  /// What an eigenvalue may be below 0, relative to the largest: rounding, also of a covariance kept in float32.
  private static let tolerance = 1e-5

  /// - Throws: `DiTError` when Σ is not positive semi-definite.
  init(_ prior: SequencePrior, _ kind: SequenceContext, _ context: ComputeContext) throws(DiTError) {
    let n = prior.grid.patchElements
    neighbors = kind.neighbors
    let depth = neighbors.count * n
    let target = SequencePrior.blocks - 1
    let patches = neighbors.map(\.rawValue)
    var matrices = [patches + [target], patches].map { patches in
      SymmetricMatrix(order: patches.count * n, elements: prior.block(patches, patches))
    }
    guard context.diagonalize(&matrices) else {
      throw DiTError(argument: "covariance", expected: "a matrix with eigenvalues", found: "one without")
    }
    jointValues = try Self.checked(matrices[0].eigenvalues)
    contextValues = try Self.checked(matrices[1].eigenvalues)
    let joint = matrices[0].elements
    var vectors: [Double] = []
    vectors.reserveCapacity((depth + n) * n)
    for row in 0..<depth + n { vectors += joint[row * (depth + n) + depth..<(row + 1) * (depth + n)] }
    targetVectors = vectors

    let cross = prior.block([target], patches)
    let eigenvectors = matrices[1].elements
    var regression = [Double](repeating: 0, count: n * depth)
    var span = regression.mutableSpan
    context.product(
      &span, cross.span, transposed: eigenvectors.span, rows: n, columns: depth, depth: depth)
    contextVectors = eigenvectors
    self.regression = regression
  }

  private static func checked(_ values: [Double]) throws(DiTError) -> [Double] {
    if let least = values.first, least < -tolerance * abs(values[values.count - 1]) {
      throw DiTError(
        argument: "covariance", expected: "a positive semi-definite matrix", found: "one with an eigenvalue of \(least)"
      )
    }
    return values.map { max($0, 0) }
  }

  /// Conditions `rows` patches, each at a signal level a of its own.
  ///
  /// - Parameters:
  ///   - residuals: the value less √a μ_i, (rows, n); becomes S⁻¹(value − m).
  ///   - energies: becomes (value − m)ᵀ S⁻¹ (value − m), (rows).
  ///   - neighbors: a c, the neighbors' deviations from √a times their means, times a; (rows, k n).
  ///   - signals: a, (rows).
  ///   - projected, spectral: memory of (rows, k n) and (rows, (k+1) n).
  func condition(
    _ rows: Int, residuals: inout [Double], energies: inout [Double], neighbors: [Double], signals: [Double],
    projected: inout [Double], spectral: inout [Double], context: ComputeContext
  ) {
    let (depth, joint) = (contextValues.count, jointValues.count)
    let n = joint - depth
    var residuals = residuals.mutableSpan
    var energies = energies.mutableSpan
    if depth > 0 {
      var projected = projected.mutableSpan
      context.product(
        &projected, neighbors.span, transposed: contextVectors.span, rows: rows, columns: depth, depth: depth)
      context.divide(&projected, energies: &energies, spectrum: contextValues.span, signals: signals.span, rows: rows)
      context.product(
        &residuals, projected.span, transposed: regression.span, rows: rows, columns: n, depth: depth,
        subtracting: true)
    }
    var spectral = spectral.mutableSpan
    context.product(&spectral, residuals.span, transposed: targetVectors.span, rows: rows, columns: joint, depth: n)
    context.divide(&spectral, energies: &energies, spectrum: jointValues.span, signals: signals.span, rows: rows)
    context.product(&residuals, spectral.span, targetVectors.span, rows: rows, columns: n, depth: joint)
  }

  /// diag S⁻¹ at signal level a, n elements from `start` on.
  func inverseDiagonal(_ diagonal: inout [Double], at start: Int, signal a: Double, context: ComputeContext) {
    var span = diagonal.mutableSpan
    context.inverseDiagonal(
      &span, at: start, columns: jointValues.count - contextValues.count, vectors: targetVectors.span,
      spectrum: jointValues.span, signal: a)
  }

  /// log det S at signal level a.
  func logDeterminant(signal a: Double) -> Double {
    var sum = 0.0
    for i in jointValues.indices { sum += log(jointValues[i] * a + (1 - a)) }
    for i in contextValues.indices { sum -= log(contextValues[i] * a + (1 - a)) }
    return sum
  }
}

/// The prior's conditionals at every noise level: a table for each kind of patch. Immutable; copies share the memory,
/// 440 n² bytes.
public struct SequenceConditionals: Sendable {
  public let grid: PatchGrid
  /// The prior's, (C, H, W).
  let mean: [Double]
  /// By ``SequenceContext``.
  let tables: [SequenceTable]

  /// Diagonalizes the blocks of the prior's covariance. For n = 768 that takes about a minute and 0.7 GB beside the prior.
  ///
  /// - Throws: `DiTError` (`covariance`) when it is not positive semi-definite.
  public init(_ prior: SequencePrior, context: ComputeContext) throws(DiTError) {
    grid = prior.grid
    mean = prior.mean
    var tables: [SequenceTable] = []
    for kind in SequenceContext.allCases { tables.append(try SequenceTable(prior, kind, context)) }
    self.tables = tables
  }
}
