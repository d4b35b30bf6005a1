// A linear-Gaussian model of clean images as a row-major sequence of patches, q(z_i | z_<i) = q(z_i | neighbors of i):
// a mean for each position, and one covariance of (left, upper-left, upper, upper-right, target) for all positions. Where a
// neighbor lies outside the image, its part of the covariance is left out.
//
// Letters: n = P²C elements of a patch in the order c, row, column; Σ (5n, 5n).

import DiTKernels
import DiTTensor

/// The fitted prior at noise level 0. At level t the mean is √ᾱ_t · mean and the covariance ᾱ_t Σ + (1 − ᾱ_t) I.
public struct SequencePrior: Equatable, Sendable {
  public let grid: PatchGrid
  /// (C, H, W).
  public let mean: [Double]
  /// Σ, (5n, 5n), symmetric: left, upper-left, upper, upper-right, target.
  public let covariance: [Double]

  /// Patches a row of the covariance spans: four neighbors and the target.
  public static let blocks = SequenceNeighbor.allCases.count + 1

  /// A prior of given numbers, for example from a file.
  ///
  /// - Throws: `DiTError` when the grid is too small or its patches too large (`lambda_seq`), when a number is not
  ///   finite, or the covariance is not symmetric. ``SequenceLoss`` finds out whether it is positive semi-definite.
  /// - Precondition: C·H·W and (5n)² elements.
  public init(grid: PatchGrid, mean: [Double], covariance: [Double]) throws(DiTError) {
    try grid.checkSequence()
    let order = Self.blocks * grid.patchElements
    precondition(
      mean.count == grid.channels * grid.height * grid.width && covariance.count == order * order,
      "a mean of \(mean.count) and a covariance of \(covariance.count) elements for \(grid)")
    try Self.checkFinite(mean, "mean")
    try Self.checkFinite(covariance, "covariance")
    for row in 0..<order {
      for column in 0..<row where covariance[row * order + column] != covariance[column * order + row] {
        throw DiTError(
          argument: "covariance", expected: "a symmetric matrix",
          found: "\(covariance[row * order + column]) and \(covariance[column * order + row]) at (\(row), \(column))")
      }
    }
    self.grid = grid
    self.mean = mean
    self.covariance = covariance
  }

  private static func checkFinite(_ values: [Double], _ name: String) throws(DiTError) {
    if let i = values.firstIndex(where: { !$0.isFinite }) {
      throw DiTError(argument: name, expected: "finite numbers", found: "\(values[i]) at element \(i)")
    }
  }

  /// The block of Σ whose rows belong to one set of patches and its columns to another; 4 is the target.
  func block(_ rows: [Int], _ columns: [Int]) -> [Double] {
    let n = grid.patchElements
    let order = Self.blocks * n
    var values: [Double] = []
    values.reserveCapacity(rows.count * columns.count * n * n)
    for row in rows {
      for r in row * n..<(row + 1) * n {
        for column in columns { values += covariance[r * order + column * n..<r * order + (column + 1) * n] }
      }
    }
    return values
  }
}
