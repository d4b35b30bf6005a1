// The Fréchet distance of two Gaussians (Dowson and Landau 1982; of features of images, Heusel et al. 2017):
//
//   |μ_a − μ_b|² + tr(A + B − 2 (AB)^½)
//
// With A = FᵀF and B = GᵀG, the eigenvalues of AB are the squared singular values of F Gᵀ, so tr (AB)^½ is their sum. That
// needs no root of a product that is singular (constant pixels, fewer samples than pixels), and each singular value is
// exact to rounding of the largest.

import DiTKernels
import DiTLinearAlgebra

/// A Fréchet distance and its two terms; squared units of the features.
public struct FrechetDistance: Equatable, Sendable {
  /// |μ_a − μ_b|².
  public let meanTerm: Double
  /// tr(A + B − 2 (AB)^½), not negative.
  public let covarianceTerm: Double

  /// The sum.
  public var value: Double { meanTerm + covarianceTerm }

  init(meanTerm: Double, covarianceTerm: Double) {
    (self.meanTerm, self.covarianceTerm) = (meanTerm, covarianceTerm)
  }

  init(_ a: Gaussian, _ b: Gaussian, on context: ComputeContext) {
    let d = a.mean.count
    precondition(d == b.mean.count, "Gaussians of \(d) and \(b.mean.count) coordinates")
    meanTerm = zip(a.mean, b.mean).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    guard a.rank > 0, b.rank > 0 else {
      covarianceTerm = a.trace + b.trace
      return
    }
    var product = [Double](repeating: 0, count: a.rank * b.rank)
    var span = product.mutableSpan
    context.product(&span, a.factor.span, transposed: b.factor.span, rows: a.rank, columns: b.rank, depth: d)
    guard let values = context.singularValues(&product, rows: a.rank, columns: b.rank) else {
      preconditionFailure("the singular values of a finite matrix did not converge")
    }
    covarianceTerm = max(0, a.trace + b.trace - 2 * values.reduce(0, +))
  }
}
