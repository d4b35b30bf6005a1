import DiTTensor

/// What of the network depends on (t, y) alone: when sampling it is made once for many steps.
///
///   shift and scale of the norms, and the gates:
///     block i: (rows, 6D), chunks shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp
///              (rows, 4D) without gates
///     final:   (rows, 2D), chunks shift, scale
///   Where no condition modulates them there is one row for all: LayerNorm's bias and weight − 1, RMSNorm's zeros.
///   conditions: (rows, k, D): c itself where it is added to the tokens, the embeddings that stand before them as tokens
///   ones: (1, D), the gate where there is none
///   scales: block i: (rows, h), what q·k is multiplied by; widths: (rows), k(t). Where attention depends on t.
public struct Modulation {
  /// Rows, one per sample.
  public let rows: Int
  let values: MutableFloatSlice
  private let layout: Layout

  /// Where the parts lie.
  private struct Layout: Equatable {
    let width, depth, parts: Int
    /// Rows of shift, scale and gate; of ones.
    let normRows, ungatedRows: Int
    /// Vectors per row of the conditions.
    let conditions: Int
    /// Scales per row of a block; 0 where they are 1/√d.
    let heads: Int
    let hasWidths: Bool
    /// Whether shift and scale are each row's own.
    let isModulated: Bool

    /// - Parameter isGradient: gradients have a row for each sample also of what all samples share.
    init(_ c: DiTConfiguration, rows: Int, isGradient: Bool) {
      width = c.hiddenSize
      depth = c.depth
      parts = Modulation.parts(c)
      normRows = isGradient || c.conditioning.isModulated ? rows : 1
      ungatedRows = c.conditioning == .adaLNZero ? 0 : isGradient ? rows : 1
      conditions = ConditionTokens.conditions(c)
      heads = c.attention.isStandard ? 0 : c.numHeads
      hasWidths = c.attention.hasGate && !isGradient
      isModulated = c.conditioning.isModulated
    }

    /// The first element of the conditions.
    var norms: Int { normRows * width * (parts * depth + 2) }

    /// The first element of the scales.
    func scales(rows: Int) -> Int { norms + (rows * conditions + ungatedRows) * width }
    /// The first element of the widths.
    func widths(rows: Int) -> Int { scales(rows: rows) + rows * depth * heads }

    func elements(rows: Int) -> Int { widths(rows: rows) + (hasWidths ? rows : 0) }
  }

  /// Chunks of a block: 6 with gates, 4 without.
  static func parts(_ configuration: DiTConfiguration) -> Int { configuration.conditioning == .adaLNZero ? 6 : 4 }

  /// Elements that `rows` rows need.
  public static func elements(_ configuration: DiTConfiguration, rows: Int) -> Int {
    Layout(configuration, rows: rows, isGradient: false).elements(rows: rows)
  }

  /// Elements that the gradients of `rows` rows need.
  static func gradientElements(_ configuration: DiTConfiguration, rows: Int) -> Int {
    Layout(configuration, rows: rows, isGradient: true).elements(rows: rows)
  }

  /// Rows over `values`.
  public init(_ configuration: DiTConfiguration, rows: Int, values: MutableFloatSlice) {
    self.init(Layout(configuration, rows: rows, isGradient: false), rows: rows, values: values)
  }

  /// The gradients of `rows` rows over `values`.
  init(gradients configuration: DiTConfiguration, rows: Int, values: MutableFloatSlice) {
    self.init(Layout(configuration, rows: rows, isGradient: true), rows: rows, values: values)
  }

  private init(_ layout: Layout, rows: Int, values: MutableFloatSlice) {
    self.layout = layout
    self.rows = rows
    self.values = values[0..<layout.elements(rows: rows)]
  }

  private func parts(_ index: Int) -> Int { index == layout.depth ? 2 : layout.parts }

  /// All of a block's rows (`depth` for the final layer's).
  func block(_ index: Int) -> MutableFloatSlice {
    let start = index * layout.normRows * layout.parts * layout.width
    return values[start..<start + layout.normRows * parts(index) * layout.width]
  }

  /// A chunk of a block's rows, (rows, D): all the same row where the rows are shared.
  private func chunk(_ index: Int, _ part: Int) -> MutableMatrix {
    let all = block(index)
    let stride = layout.normRows == rows ? parts(index) * layout.width : 0
    return MutableMatrix(
      all[part * layout.width..<all.count], rows: rows, columns: layout.width, stride: stride)
  }

  /// The first chunk of a half: shift, scale and, with gates, gate.
  private func first(_ half: BlockHalf) -> Int { half == .attention ? 0 : layout.parts / 2 }

  /// Shift and scale of a half of block `index`, for samples of so many tokens.
  func rows(_ index: Int, _ half: BlockHalf, tokens: Int) -> ModulatedRows {
    ModulatedRows(shift: chunk(index, first(half)), scale: chunk(index, first(half) + 1), tokens: tokens)
  }

  /// Shift and scale of the final layer.
  func finalRows(tokens: Int) -> ModulatedRows {
    ModulatedRows(shift: chunk(layout.depth, 0), scale: chunk(layout.depth, 1), tokens: tokens)
  }

  /// The gate of a half; ones (or gradients of no condition's) where the condition gives none.
  func gate(_ index: Int, _ half: BlockHalf) -> MutableMatrix {
    guard layout.ungatedRows > 0 else { return chunk(index, first(half) + 2) }
    let stride = layout.ungatedRows == rows ? layout.width : 0
    return MutableMatrix(ones, rows: rows, columns: layout.width, stride: stride)
  }

  /// Vectors per row of ``conditions``.
  var conditionCount: Int { layout.conditions }
  /// (rows, ``conditionCount``, D).
  var conditions: MutableFloatSlice { values[layout.norms..<layout.norms + rows * layout.conditions * layout.width] }
  /// The conditions of one row.
  func condition(_ row: Int) -> MutableFloatSlice {
    let size = layout.conditions * layout.width
    return conditions[row * size..<(row + 1) * size]
  }
  /// What stands for the gates where there are none.
  var ones: MutableFloatSlice {
    let end = layout.scales(rows: rows)
    return values[end - layout.ungatedRows * layout.width..<end]
  }
  /// (rows, h) of block `index`: what q·k is multiplied by, gate included; empty where that is 1/√d.
  func scales(_ index: Int) -> MutableFloatSlice {
    let start = layout.scales(rows: rows) + index * rows * layout.heads
    return values[start..<start + rows * layout.heads]
  }
  /// k(t) of each row, whole numbers; empty without a window.
  var widths: MutableFloatSlice {
    let start = layout.widths(rows: rows)
    return values[start..<start + (layout.hasWidths ? rows : 0)]
  }

  /// Copies a row of `source`, with what all rows share, into another.
  package func copyRow(_ row: Int, from source: Modulation, _ sourceRow: Int) {
    let to = self
    precondition(row < rows && sourceRow < source.rows && layout.width == source.layout.width, "rows of two models")
    func copy(_ from: MutableFloatSlice, _ into: MutableFloatSlice, _ size: Int) {
      into[row * size..<(row + 1) * size].copy(from: from[sourceRow * size..<(sourceRow + 1) * size].span)
    }
    if layout.isModulated {
      for index in 0...layout.depth { copy(source.block(index), to.block(index), parts(index) * layout.width) }
    } else {
      values[0..<layout.norms].copy(from: source.values[0..<layout.norms].reading)
    }
    if layout.conditions > 0 { copy(source.conditions, conditions, layout.conditions * layout.width) }
    ones.copy(from: source.ones.reading)
    if layout.heads > 0 {
      for index in 0..<layout.depth { copy(source.scales(index), scales(index), layout.heads) }
    }
    if layout.hasWidths { copy(source.widths, widths, 1) }
  }

  /// Copies row `indices[n]` of `source` into row n, and what all rows share.
  public func copyRows(_ indices: [Int], from source: Modulation) {
    precondition(
      indices.count <= rows && source.layout.width == layout.width && source.layout.depth == layout.depth
        && source.layout.parts == layout.parts && source.layout.conditions == layout.conditions
        && source.layout.heads == layout.heads && source.layout.hasWidths == layout.hasWidths,
      "modulations of two models")
    let isShared = !layout.isModulated
    if isShared { values[0..<layout.norms].copy(from: source.values[0..<layout.norms].reading) }
    for index in 0...layout.depth where !isShared {
      let size = parts(index) * layout.width
      copyRows(indices, of: size, from: source.block(index), to: block(index))
    }
    for (row, sourceRow) in indices.enumerated() where layout.conditions > 0 {
      condition(row).copy(from: source.condition(sourceRow).reading)
    }
    ones.copy(from: source.ones.reading)
    for index in 0..<layout.depth where layout.heads > 0 {
      copyRows(indices, of: layout.heads, from: source.scales(index), to: scales(index))
    }
    if layout.hasWidths { copyRows(indices, of: 1, from: source.widths, to: widths) }
  }

  private func copyRows(_ indices: [Int], of size: Int, from source: MutableFloatSlice, to target: MutableFloatSlice) {
    for (row, sourceRow) in indices.enumerated() {
      target[row * size..<(row + 1) * size].copy(from: source[sourceRow * size..<(sourceRow + 1) * size].span)
    }
  }
}
