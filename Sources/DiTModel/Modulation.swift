import DiTTensor

/// The conditioning's shift, scale and gate rows for every block, computed from (t, y) alone: when sampling they are
/// made once for many steps.
///
///   block i: (rows, 6D), chunks shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp
///   final:   (rows, 2D), chunks shift, scale
public struct Modulation: Sendable {
  /// A chunk of a block's rows: the element of row 0, with the distance from row to row.
  struct Chunk {
    let slice: Slice
    let stride: Int
  }

  /// Rows, one a sample.
  public let rows: Int
  let values: Slice
  let width: Int
  let depth: Int

  /// Elements that `rows` rows need.
  public static func elements(_ configuration: DiTConfiguration, rows: Int) -> Int {
    rows * configuration.hiddenSize * (6 * configuration.depth + 2)
  }

  /// Rows over `values`.
  public init(_ configuration: DiTConfiguration, rows: Int, values: Slice) {
    self.rows = rows
    self.values = values[0..<Self.elements(configuration, rows: rows)]
    width = configuration.hiddenSize
    depth = configuration.depth
  }

  /// All of a block's rows (`depth` for the final layer's).
  func block(_ index: Int) -> Slice {
    let start = index * rows * 6 * width
    return values[start..<start + rows * (index == depth ? 2 : 6) * width]
  }

  private func chunk(_ index: Int, _ part: Int) -> Chunk {
    let all = block(index)
    return Chunk(slice: all[part * width..<all.count], stride: (index == depth ? 2 : 6) * width)
  }

  func shiftMSA(_ i: Int) -> Chunk { chunk(i, 0) }
  func scaleMSA(_ i: Int) -> Chunk { chunk(i, 1) }
  func gateMSA(_ i: Int) -> Chunk { chunk(i, 2) }
  func shiftMLP(_ i: Int) -> Chunk { chunk(i, 3) }
  func scaleMLP(_ i: Int) -> Chunk { chunk(i, 4) }
  func gateMLP(_ i: Int) -> Chunk { chunk(i, 5) }
  var finalShift: Chunk { chunk(depth, 0) }
  var finalScale: Chunk { chunk(depth, 1) }

  /// Copies row `indices[n]` of `source` into row n.
  public func copyRows(_ indices: [Int], from source: Modulation) {
    precondition(indices.count <= rows && source.width == width && source.depth == depth, "modulations of two models")
    for index in 0...depth {
      let size = (index == depth ? 2 : 6) * width
      let (to, from) = (block(index), source.block(index))
      for (row, sourceRow) in indices.enumerated() {
        to[row * size..<(row + 1) * size].copy(from: from[sourceRow * size..<(sourceRow + 1) * size].span)
      }
    }
  }
}
