/// Heat maps of one size side by side, in the colors of one scale, which a bar to their right shows.
public struct HeatMapPlot: Sendable {
  /// One map.
  public struct Panel: Sendable {
    /// Above the map.
    public var caption: String
    /// (rows, columns), row-major. One that has no place on the scale, such as NaN, is gray.
    public var values: [Double]

    public init(caption: String, values: [Double]) {
      self.caption = caption
      self.values = values
    }
  }

  public var title: String
  public var panels: [Panel]
  /// Of every map.
  public let rows, columns: Int
  /// Maps in a row.
  public var panelsPerRow: Int
  public var scale: PlotScale
  public var colors = ColorMap.viridis

  /// A map is at least so many pixels on its longer side, where its cells can be enlarged to that.
  private static let side = 120
  private static let margin = 12
  private static let gap = 16
  private static let barWidth = 18

  public init(
    title: String, panels: [Panel], rows: Int, columns: Int, panelsPerRow: Int = 5, scale: PlotScale = .linear
  ) {
    precondition(!panels.isEmpty && panelsPerRow >= 1, "\(panels.count) heat maps, \(panelsPerRow) a row")
    for panel in panels {
      precondition(
        panel.values.count == rows * columns && !panel.values.isEmpty,
        "\(panel.values.count) values for a map of \(rows)×\(columns)")
    }
    self.title = title
    self.panels = panels
    self.rows = rows
    self.columns = columns
    self.panelsPerRow = panelsPerRow
    self.scale = scale
  }

  /// A cell's side in pixels.
  public var cell: Int { max(1, (Self.side + max(rows, columns) - 1) / max(rows, columns)) }

  private var axis: PlotAxis { PlotAxis(panels.flatMap(\.values), scale: scale, rounds: false, count: 6) }
  private var captionWidth: Int { panels.map { PlotCanvas.width(of: $0.caption) }.max() ?? 0 }
  private var panelWidth: Int { max(columns * cell, captionWidth) }
  private var panelHeight: Int { PlotCanvas.lineHeight + rows * cell }
  private var top: Int { Self.margin + PlotCanvas.lineHeight + Self.gap / 2 }
  private var gridColumns: Int { min(panelsPerRow, panels.count) }
  private var gridRows: Int { (panels.count + panelsPerRow - 1) / panelsPerRow }
  private var barLeft: Int { Self.margin + gridColumns * (panelWidth + Self.gap) }
  private var gridHeight: Int { gridRows * (panelHeight + Self.gap) - Self.gap }

  /// Where the upper left pixel of a map's first cell lies in the rendered picture.
  public func origin(ofPanel index: Int) -> (x: Int, y: Int) {
    precondition(panels.indices.contains(index), "heat map \(index) of \(panels.count)")
    return (
      Self.margin + index % panelsPerRow * (panelWidth + Self.gap),
      top + index / panelsPerRow * (panelHeight + Self.gap) + PlotCanvas.lineHeight
    )
  }

  public func rendered() -> Image {
    let axis = axis
    let labels = axis.labels.map { PlotCanvas.width(of: $0) }.max() ?? 0
    let right = barLeft + Self.barWidth + Self.gap / 2 + labels
    var canvas = PlotCanvas(
      width: max(right, Self.margin + PlotCanvas.width(of: title)) + Self.margin, height: top + gridHeight + Self.margin
    )
    canvas.text(title, x: Self.margin, y: Self.margin)
    for index in panels.indices { draw(index, axis, on: &canvas) }
    drawBar(axis, on: &canvas)
    return canvas.image
  }

  private func draw(_ index: Int, _ axis: PlotAxis, on canvas: inout PlotCanvas) {
    let (left, top) = origin(ofPanel: index)
    canvas.text(panels[index].caption, x: left, y: top - PlotCanvas.lineHeight)
    canvas.frame(x: left, y: top, width: columns * cell, height: rows * cell, .frame)
    for (place, value) in panels[index].values.enumerated() {
      let color = axis.share(value).map { colors.color($0) } ?? .none
      canvas.fill(
        x: left + place % columns * cell, y: top + place / columns * cell, width: cell, height: cell, color)
    }
  }

  /// The scale from low at the bottom to high at the top, with its ticks.
  private func drawBar(_ axis: PlotAxis, on canvas: inout PlotCanvas) {
    let (start, height) = (top + PlotCanvas.lineHeight, gridHeight - PlotCanvas.lineHeight)
    canvas.frame(x: barLeft, y: start, width: Self.barWidth, height: height, .frame)
    for row in 0..<height {
      let share = 1 - (Double(row) + 0.5) / Double(height)
      canvas.fill(x: barLeft, y: start + row, width: Self.barWidth, height: 1, colors.color(share))
    }
    for (tick, label) in zip(axis.ticks, axis.labels) {
      guard let share = axis.share(tick) else { continue }
      let row = start + Int((1 - share) * Double(height - 1))
      canvas.text(label, x: barLeft + Self.barWidth + Self.gap / 2, y: row - PlotCanvas.textHeight / 2)
    }
  }
}
