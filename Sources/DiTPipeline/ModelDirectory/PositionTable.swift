import DiTFiles
import DiTKernels
import DiTModel
import DiTTensor
import Foundation

/// A position table, (1, L, D), as it is stored, and the grid of patches that it belongs to. A number of rows tells no
/// grid: 16 rows may be 4×4, 2×8 or 1×16. The values tell, where they are the fixed sines and cosines of one.
struct PositionTable {
  static let name = "pos_embed"

  let values: FloatSlice
  let rows: Int
  let width: Int

  typealias Grid = (rows: Int, columns: Int)

  /// What rounding to bfloat16 may change of a value in [−1, 1].
  static let tolerance: Float = 4e-3

  init(values: FloatSlice, rows: Int, width: Int) {
    (self.values, self.rows, self.width) = (values, rows, width)
  }

  /// The table in `file`; nil where there is none of so many columns.
  ///
  /// - Throws: as reading a tensor does; `DiTError` when it holds NaN or infinity.
  init?(_ file: any TensorStore, width: Int) throws {
    guard let shape = file.shape(of: Self.name), shape.count == 3, shape[0] == 1, shape[1] > 0, shape[2] == width,
      width > 0
    else { return nil }
    (values, rows, self.width) = (try Weights.finite(Self.name, of: file), shape[1], width)
  }

  /// The grid whose fixed sine-cosine table this is, as far as rounding lets tell; nil where it is no such table.
  ///
  /// - Parameter preferred: looked at first, as a few patches may belong to several grids.
  func computedGrid(preferring preferred: Grid? = nil) -> Grid? {
    guard width % 4 == 0 else { return nil }
    if let preferred, preferred.rows * preferred.columns == rows, difference(from: preferred) <= Self.tolerance {
      return preferred
    }
    let side = Int(Double(rows).squareRoot().rounded())
    let columns = (1...rows).filter { rows % $0 == 0 }.sorted { abs($0 - side) < abs($1 - side) }
    return columns.lazy.map { (rows: rows / $0, columns: $0) }.first { difference(from: $0) <= Self.tolerance }
  }

  /// The grid that so many rows are taken for where the values do not tell: a square one, else one of the aspect ratio of
  /// `target`; nil where there is none.
  func assumedGrid(_ target: Grid) -> Grid? {
    let side = Int(Double(rows).squareRoot().rounded())
    if side * side == rows { return (side, side) }
    let ratio = Double(rows) / Double(target.rows * target.columns)
    let height = Int((Double(target.rows) * ratio.squareRoot()).rounded())
    let columns = height > 0 ? rows / height : 0
    return height * columns == rows && height * target.columns == columns * target.rows ? (height, columns) : nil
  }

  /// The largest difference from the fixed table of a grid, at least of the first element that differs by more than
  /// rounding explains.
  private func difference(from grid: Grid) -> Float {
    var largest: Float = 0
    // The first row's end tells most grids apart.
    for row in [grid.columns % rows, rows - 1] {
      largest = max(largest, difference(row: row, grid))
      if largest > Self.tolerance { return largest }
    }
    return largestDifference(from: grid)
  }

  /// The largest difference from the fixed table of a grid of as many patches.
  func largestDifference(from grid: Grid) -> Float {
    precondition(grid.rows * grid.columns == rows && width % 4 == 0, "the table of another number of patches")
    let computed = MutableFloatSlice(zeros: rows * width)
    sinCosPositions(output: computed.mutableSpan, rows: grid.rows, columns: grid.columns, width: width)
    let (stored, fixed) = (values.span, computed.span)
    var largest: Float = 0
    for i in 0..<rows * width {
      let difference = abs(stored[i] - fixed[i])
      if !(difference <= largest) { largest = difference }  // also where it is not a number
      if largest.isNaN { return .infinity }
    }
    return largest
  }

  private func difference(row: Int, _ grid: Grid) -> Float {
    let (quarter, stored) = (width / 4, values.span)
    var largest: Float = 0
    for k in 0..<quarter {
      let omega = 1 / pow(10000, Double(k) / Double(quarter))
      let (x, y) = (Double(row % grid.columns) * omega, Double(row / grid.columns) * omega)
      for (part, value) in [sin(x), cos(x), sin(y), cos(y)].enumerated() {
        let difference = abs(stored[row * width + part * quarter + k] - Float(value))
        guard difference <= Self.tolerance else { return .infinity }
        largest = max(largest, difference)
      }
    }
    return largest
  }
}

extension PositionTable {
  /// What a network of `configuration` uses for a stored table: the table itself where it belongs to the network's grid;
  /// of another grid's fixed table the fixed one of its own; any other table resampled (see `resamplePositions`).
  ///
  /// A table that is not the fixed one of any grid belongs to the network's where it has as many rows.
  ///
  /// - Parameter file: what errors name.
  /// - Throws: `DiTError` where a table must be resampled and nothing tells its grid.
  func values(for configuration: DiTConfiguration, file: String) throws(DiTError) -> FloatSlice {
    let target: Grid = (configuration.inputGrid.rows, configuration.inputGrid.columns)
    guard configuration.positionTokens == configuration.tokens else {
      guard rows == configuration.positionTokens else {
        throw DiTError(
          file: file, .tensor(Self.name),
          expected: "\(configuration.positionTokens) rows, of the condition's tokens and the image's",
          found: "\(rows) rows")
      }
      return values
    }
    let computed = computedGrid(preferring: target)
    let belongs = computed.map { $0 == target } ?? (rows == configuration.tokens)
    guard !belongs else { return values }
    let made = MutableFloatSlice(zeros: configuration.tokens * width)
    if computed != nil, !configuration.position.isLearned {
      sinCosPositions(output: made.mutableSpan, rows: target.rows, columns: target.columns, width: width)
      return made.reading
    }
    guard let source = computed ?? assumedGrid(target) else {
      throw DiTError(
        file: file, .tensor(Self.name),
        expected:
          "a table of \(target.rows)×\(target.columns) patches, or of a grid of that aspect ratio or a square one",
        found: "\(rows) rows")
    }
    resamplePositions(
      output: made.mutableSpan, table: values.span, from: source, to: target, width: width)
    return made.reading
  }
}

extension DiTConfiguration {
  /// Whether `table` is the fixed sine-cosine table of the network's grid, as far as rounding lets tell.
  package func computes(positions table: FloatSlice) -> Bool {
    let grid = (rows: inputGrid.rows, columns: inputGrid.columns)
    guard table.count == tokens * hiddenSize, hiddenSize % 4 == 0 else { return false }
    return PositionTable(values: table, rows: tokens, width: hiddenSize).largestDifference(from: grid)
      <= PositionTable.tolerance
  }
}
