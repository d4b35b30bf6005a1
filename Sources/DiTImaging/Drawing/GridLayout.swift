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
  /// Font pixels are squares of this side.
  let rowTextScale, imageTextScale, columnTextScale: Int
  /// The labels, shortened to what fits.
  let rowLabels, imageLabels, columnLabels: [String]

  init(
    cellWidth: Int, cellHeight: Int, count: Int, columns: Int, group: Int, rowLabels: [String], columnLabels: [String],
    imageLabels: [String]
  ) {
    (self.cellWidth, self.cellHeight, self.columns, self.group) = (cellWidth, cellHeight, columns, group)
    rowsPerGroup = (group + columns - 1) / columns
    let (groups, rest) = count.quotientAndRemainder(dividingBy: group)
    rows = groups * rowsPerGroup + (rest + columns - 1) / columns
    gap = min(max(max(cellWidth, cellHeight) / 12, 2), 16)
    margin = 2 * gap
    rowTextScale = min(max(min(cellWidth, cellHeight) / 48, 1), 3)
    imageTextScale = Self.textScale(of: imageLabels, largest: rowTextScale, width: cellWidth)
    columnTextScale = Self.textScale(of: columnLabels, largest: rowTextScale, width: cellWidth)
    let (imageLimit, columnLimit) = (cellWidth / imageTextScale, cellWidth / columnTextScale)
    self.rowLabels = rowLabels.map { PixelFont.truncated($0, toFit: Self.longestRowLabel) }
    self.imageLabels = imageLabels.map { PixelFont.truncated($0, toFit: imageLimit) }
    self.columnLabels = columnLabels.map { PixelFont.truncated($0, toFit: columnLimit) }
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

  /// The upper left corner of the text above an image.
  func imageLabelOrigin(of index: Int) -> (x: Int, y: Int) {
    let (row, column) = cell(of: index)
    let inset = (cellWidth - PixelFont.width(of: imageLabels[index]) * imageTextScale) / 2
    return (left(ofColumn: column) + inset, top(ofRow: row))
  }

  /// The upper left corner of the text above a column.
  func columnLabelOrigin(of column: Int) -> (x: Int, y: Int) {
    let inset = (cellWidth - PixelFont.width(of: columnLabels[column]) * columnTextScale) / 2
    return (left(ofColumn: column) + inset, margin)
  }

  /// The upper left corner of the text to the left of a group's first row: right-aligned, capitals centered on the cell.
  func rowLabelOrigin(of group: Int) -> (x: Int, y: Int) {
    let inset = rowLabelWidth - PixelFont.width(of: rowLabels[group]) * rowTextScale
    let y = cellTop(ofRow: group * rowsPerGroup) + (cellHeight - PixelFont.ascent * rowTextScale) / 2
    return (margin + inset, y)
  }

  /// Row labels may be this long, in font pixels: about 20 characters.
  private static let longestRowLabel = 120

  private var rowLabelWidth: Int { (rowLabels.map(PixelFont.width).max() ?? 0) * rowTextScale }
  private var cellsLeft: Int { margin + (rowLabelWidth > 0 ? rowLabelWidth + gap + gap / 2 : 0) }
  private var columnStrip: Int { columnLabels.isEmpty ? 0 : (PixelFont.height + 1) * columnTextScale + gap / 2 }
  private var imageStrip: Int { imageLabels.isEmpty ? 0 : (PixelFont.height + 1) * imageTextScale }
  /// Never lower than a line of text, so that labels of successive rows stay apart.
  private var bodyHeight: Int { rowLabels.isEmpty ? cellHeight : max(cellHeight, PixelFont.height * rowTextScale) }
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
  private static func textScale(of labels: [String], largest: Int, width: Int) -> Int {
    let widest = labels.map(PixelFont.width).max() ?? 0
    return widest * largest <= width ? largest : max(1, largest - 1)
  }
}
