// A row-major sequence of patches z_1 … z_L and what each is conditioned on: the neighbors that come before it.
//
//   upper-left   upper   upper-right
//   left         target

import DiTKernels
import DiTTensor

/// A neighbor that comes before a patch; the order is that of the prior's covariance, the target after them.
enum SequenceNeighbor: Int, CaseIterable, Sendable {
  case left, upperLeft, upper, upperRight

  /// Rows and columns from the target.
  var offset: (row: Int, column: Int) {
    switch self {
    case .left: (0, -1)
    case .upperLeft: (-1, -1)
    case .upper: (-1, 0)
    case .upperRight: (-1, 1)
    }
  }
}

/// Which neighbors exist. On a grid of at least 2 rows and 3 columns these are all the cases, and each occurs.
enum SequenceContext: Int, CaseIterable, Sendable {
  /// The first patch: none.
  case first
  /// The rest of the first row: left.
  case top
  /// The first column: upper, upper-right.
  case leftColumn
  /// The last column: left, upper-left, upper.
  case rightColumn
  /// All four.
  case interior

  private static let all: [[SequenceNeighbor]] = [
    [], [.left], [.upper, .upperRight], [.left, .upperLeft, .upper], SequenceNeighbor.allCases,
  ]

  /// The neighbors, ascending.
  var neighbors: [SequenceNeighbor] { Self.all[rawValue] }

  init(row: Int, column: Int, columns: Int) {
    self =
      switch (row, column) {
      case (0, 0): .first
      case (0, _): .top
      case (_, 0): .leftColumn
      case (_, columns - 1): .rightColumn
      default: .interior
      }
  }
}

extension PatchGrid {
  /// The largest n = P²C that ``SequenceLoss`` takes: its tables of 55 n² Doubles stay within 512 MB.
  static let largestSequencePatch = 1104

  /// Throws unless a sequence prior can be fitted: at least 2 rows and 3 columns, so that a patch has all four neighbors,
  /// and patches whose tables fit 512 MB.
  public func checkSequence() throws(DiTError) {
    guard rows >= 2, columns >= 3 else {
      throw DiTError(
        option: "lambda_seq", expected: "0 on a grid of fewer than 2 rows or 3 columns of patches",
        found: "a grid of \(rows)×\(columns)")
    }
    guard patchElements <= Self.largestSequencePatch else {
      throw DiTError(
        option: "lambda_seq", expected: "0 with patches of more than \(Self.largestSequencePatch) elements",
        found: "patches of \(patchElements)")
    }
  }

  func context(of token: Int) -> SequenceContext {
    SequenceContext(row: token / columns, column: token % columns, columns: columns)
  }

  /// How far before a patch its neighbor stands in the sequence.
  func distance(to neighbor: SequenceNeighbor) -> Int {
    -(neighbor.offset.row * columns + neighbor.offset.column)
  }

  /// Where the first element of a patch lies in an image (C, H, W).
  func origin(of token: Int) -> Int {
    token / columns * patchSize * width + token % columns * patchSize
  }

  /// Where the elements of a patch lie from its first on, in the order c, row, column.
  var patchOffsets: [Int] {
    (0..<patchElements).map { e in
      let (channel, inside) = e.quotientAndRemainder(dividingBy: patchSize * patchSize)
      return (channel * height + inside / patchSize) * width + inside % patchSize
    }
  }
}
