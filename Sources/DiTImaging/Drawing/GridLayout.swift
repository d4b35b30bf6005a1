/// Where the parts of a labeled grid lie, in pixels of the rendered picture.
///
///     margin │ row label │ label gap │ cell │ gap │ cell … │ margin      across
///     margin │ column labels │ (image label │ cell) │ gap │ … │ margin   down
///
/// The gap between rows is doubled under image labels, so that each is nearer to its own image than to the one above.
/// Every group of images starts a new row; the groups are set apart when one takes several rows.
struct GridLayout: Sendable {
  /// A cell: one image after enlargement.
  let cellWidth, cellHeight: Int
  let columns, rows, group, rowsPerGroup: Int
  let gap, margin: Int
  /// The labels, shortened to what fits. Font pixels of the built-in font are as many pixels wide in all of a kind.
  let rowLabels, imageLabels, columnLabels: [LabelLine]

  private let rowText, imageText, columnText: Text

  init(
    cellWidth: Int, cellHeight: Int, count: Int, columns: Int, group: Int, rowLabels: [String], columnLabels: [String],
    imageLabels: [String], font: LabelFont
  ) {
    (self.cellWidth, self.cellHeight, self.columns, self.group) = (cellWidth, cellHeight, columns, group)
    rowsPerGroup = (group + columns - 1) / columns
    let (groups, rest) = count.quotientAndRemainder(dividingBy: group)
    rows = groups * rowsPerGroup + (rest + columns - 1) / columns
    gap = min(max(max(cellWidth, cellHeight) / 12, 2), 16)
    margin = 2 * gap
    let scale = min(max(min(cellWidth, cellHeight) / 48, 1), 3)
    var setter = Typesetter(font, for: rowLabels + columnLabels + imageLabels)
    let imageScale = Self.textScale(of: imageLabels, largest: scale, width: cellWidth, by: &setter)
    let columnScale = Self.textScale(of: columnLabels, largest: scale, width: cellWidth, by: &setter)
    self.rowLabels = rowLabels.map { setter.line($0, scale: scale, toFit: Self.longestRowLabel * scale) }
    self.imageLabels = imageLabels.map { setter.line($0, scale: imageScale, toFit: cellWidth) }
    self.columnLabels = columnLabels.map { setter.line($0, scale: columnScale, toFit: cellWidth) }
    rowText = Text(self.rowLabels)
    imageText = Text(self.imageLabels, gap: imageScale)
    columnText = Text(self.columnLabels, gap: columnScale)
  }

  /// The width of the whole picture.
  var width: Int { cellsLeft + columns * cellWidth + (columns - 1) * gap + margin }

  /// The height of the whole picture.
  var height: Int { top(ofRow: rows - 1) + rowHeight + margin }

  /// The upper left corner of the image at a place in the list.
  func origin(of index: Int) -> (x: Int, y: Int) {
    let (row, column) = cell(of: index)
    return (left(ofColumn: column), cellTop(ofRow: row))
  }

  /// Where the text above an image begins, on its base line.
  func imageLabelOrigin(of index: Int) -> (x: Int, baseline: Int) {
    let (row, column) = cell(of: index)
    let inset = (cellWidth - imageLabels[index].width) / 2
    return (left(ofColumn: column) + inset, top(ofRow: row) + imageText.ascent)
  }

  /// Where the text above a column begins, on its base line.
  func columnLabelOrigin(of column: Int) -> (x: Int, baseline: Int) {
    let inset = (cellWidth - columnLabels[column].width) / 2
    return (left(ofColumn: column) + inset, margin + columnText.ascent)
  }

  /// Where the text to the left of a group's first row begins: right-aligned, capitals centered on the cell.
  func rowLabelOrigin(of group: Int) -> (x: Int, baseline: Int) {
    let label = rowLabels[group]
    let y = cellTop(ofRow: group * rowsPerGroup) + (cellHeight - label.capHeight) / 2
    return (margin + rowLabelWidth - label.width, y + label.capHeight)
  }

  /// What labels of one kind take: the highest of them above the base line, the lowest below it.
  private struct Text {
    let ascent, height: Int

    /// - Parameter gap: pixels below the text.
    init(_ labels: [LabelLine], gap: Int = 0) {
      ascent = labels.map(\.ascent).max() ?? 0
      height = labels.isEmpty ? 0 : ascent + (labels.map(\.descent).max() ?? 0) + gap
    }
  }

  /// Row labels may be this long, in font pixels: about 20 letters.
  private static let longestRowLabel = 120

  private var rowLabelWidth: Int { rowLabels.map(\.width).max() ?? 0 }
  private var cellsLeft: Int { margin + (rowLabelWidth > 0 ? rowLabelWidth + gap + gap / 2 : 0) }
  private var columnStrip: Int { columnLabels.isEmpty ? 0 : columnText.height + gap / 2 }
  private var imageStrip: Int { imageText.height }
  /// Never lower than a line of text, so that labels of successive rows stay apart.
  private var bodyHeight: Int { max(cellHeight, rowText.height) }
  private var rowHeight: Int { imageStrip + bodyHeight }

  private var rowGap: Int { imageLabels.isEmpty ? gap : 2 * gap }

  private func left(ofColumn column: Int) -> Int { cellsLeft + column * (cellWidth + gap) }

  private func top(ofRow row: Int) -> Int {
    let groupGaps = rowsPerGroup > 1 ? row / rowsPerGroup * gap : 0
    return margin + columnStrip + row * (rowHeight + rowGap) + groupGaps
  }

  private func cellTop(ofRow row: Int) -> Int { top(ofRow: row) + imageStrip + (bodyHeight - cellHeight) / 2 }

  private func cell(of index: Int) -> (row: Int, column: Int) {
    let (group, place) = index.quotientAndRemainder(dividingBy: self.group)
    return (group * rowsPerGroup + place / columns, place % columns)
  }

  /// The largest scale at which all labels fit, at most one step below the usual one.
  private static func textScale(
    of labels: [String], largest: Int, width: Int, by setter: inout Typesetter
  ) -> Int {
    let isSmaller = labels.contains { setter.width(of: $0, scale: largest) > width }
    return isSmaller ? max(1, largest - 1) : largest
  }
}
