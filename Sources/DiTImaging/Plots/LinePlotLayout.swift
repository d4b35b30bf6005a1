/// Where the parts of a line chart lie, and how they are drawn.
///
///     title                     legend
///     tick labels │ plot area
///                   tick labels, title of the axis
struct LinePlotLayout {
  struct Entry {
    let name: String
    let color: PlotColor
    let mark: LinePlot.Series.Mark
  }

  private let plot: LinePlot
  private let x, y: PlotAxis
  /// The plot area.
  private let left, right, top, bottom: Double

  private static let margin = 12
  private static let gap = 8
  /// Labels of the vertical axis take at least this, so that charts one below the other share their left end.
  private static let labelWidth = 58

  init(_ plot: LinePlot) {
    self.plot = plot
    let points = plot.series.flatMap(\.points)
    x = PlotAxis(points.map(\.x), scale: plot.xScale, rounds: false, count: max(2, plot.width / 100))
    let rows = plot.height - 3 * PlotCanvas.lineHeight
    y = PlotAxis(
      points.map(\.y) + plot.yCovers, scale: plot.yScale, rounds: true, count: min(8, max(2, rows / 45)))
    let labels = y.labels.reduce(Self.labelWidth) { max($0, PlotCanvas.width(of: $1)) }
    // The last label of the axis below is centered on the right end.
    let overhang = (x.labels.last.map { PlotCanvas.width(of: $0) } ?? 0) / 2
    left = Double(Self.margin + labels + Self.gap)
    right = Double(plot.width - Self.margin - overhang)
    top = Double(Self.margin + PlotCanvas.lineHeight + Self.gap)
    bottom = Double(plot.height - Self.margin - PlotCanvas.lineHeight - Self.gap / 2)
  }

  func place(_ point: (x: Double, y: Double)) -> (x: Double, y: Double)? {
    guard let across = x.share(point.x), let up = y.share(point.y) else { return nil }
    return (left + across * (right - left), bottom - up * (bottom - top))
  }

  func drawGrid(on canvas: inout PlotCanvas) {
    for (tick, label) in zip(y.ticks, y.labels) {
      guard let share = y.share(tick) else { continue }
      let row = bottom - share * (bottom - top)
      across(row, .grid, on: &canvas)
      canvas.text(label, x: Int(left) - Self.gap, y: Int(row) - PlotCanvas.textHeight / 2, .right)
    }
    let under = Int(bottom) + Self.gap
    let title = PlotCanvas.width(of: plot.xTitle)
    for (tick, label) in zip(x.ticks, x.labels) {
      guard let share = x.share(tick) else { continue }
      let column = left + share * (right - left)
      down(column, from: top, .grid, on: &canvas)
      let end = Int(column) + PlotCanvas.width(of: label) / 2
      // The axis's title stands at its right end, where it takes the place of labels.
      if plot.xTitle.isEmpty || end + 2 * Self.gap < plot.width - Self.margin - title {
        canvas.text(label, x: Int(column), y: under, .middle)
      }
    }
    canvas.text(plot.xTitle, x: plot.width - Self.margin, y: under, .right)
    canvas.text(plot.title, x: Self.margin, y: Self.margin)
    across(bottom, .frame, on: &canvas)
    down(left, from: top, .frame, on: &canvas)
  }

  /// A line one pixel thick from the left end of the plot area to the right.
  private func across(_ row: Double, _ color: PlotColor, on canvas: inout PlotCanvas) {
    canvas.fill(x: Int(left), y: Int(row), width: Int(right) - Int(left) + 1, height: 1, color)
  }

  /// A line one pixel thick down to the horizontal axis.
  private func down(_ column: Double, from row: Double, _ color: PlotColor, on canvas: inout PlotCanvas) {
    canvas.fill(x: Int(column), y: Int(row), width: 1, height: Int(bottom) - Int(row) + 1, color)
  }

  func draw(_ series: LinePlot.Series, _ color: PlotColor, on canvas: inout PlotCanvas) {
    let places = series.points.map(place)
    switch series.mark {
    case .line:
      for part in places.split(whereSeparator: { $0 == nil }) {
        let line = thinned(part.compactMap(\.self))
        for (from, to) in zip(line, line.dropFirst()) {
          canvas.line(from: from, to: to, thickness: series.thickness, color)
        }
        if line.count == 1 { canvas.disc(at: line[0], radius: series.thickness / 2, color) }
      }
    case .stems, .dots:
      if series.mark == .stems {
        for place in places.compactMap(\.self) {
          down(place.x, from: place.y, .stem, on: &canvas)
        }
      }
      for place in places.compactMap(\.self) { canvas.disc(at: place, radius: series.thickness / 2, color) }
    }
  }

  /// A line whose points share columns of pixels, as seen: of each column the first, lowest, highest and last.
  private func thinned(_ line: [(x: Double, y: Double)]) -> [(x: Double, y: Double)] {
    guard Double(line.count) > 4 * (right - left) else { return line }
    var result: [(x: Double, y: Double)] = []
    var start = 0
    while start < line.count {
      var end = start
      var (low, high) = (start, start)
      while end < line.count, line[end].x.rounded(.down) == line[start].x.rounded(.down) {
        if line[end].y < line[low].y { low = end }
        if line[end].y > line[high].y { high = end }
        end += 1
      }
      for index in Set([start, low, high, end - 1]).sorted() { result.append(line[index]) }
      start = end
    }
    return result
  }

  /// One entry after another in the title's line, at its right end.
  func drawLegend(_ entries: [Entry], on canvas: inout PlotCanvas) {
    let swatch = 24
    var end = plot.width - Self.margin
    for entry in entries.reversed() {
      canvas.text(entry.name, x: end, y: Self.margin, .right)
      let start = end - PlotCanvas.width(of: entry.name) - Self.gap
      let middle = Double(Self.margin) + Double(PlotCanvas.textHeight) / 2
      if entry.mark == .line {
        let ends = (from: (x: Double(start - swatch), y: middle), to: (x: Double(start), y: middle))
        canvas.line(from: ends.from, to: ends.to, thickness: 3, entry.color)
      } else {
        canvas.disc(at: (Double(start - swatch / 3), middle), radius: 4, entry.color)
      }
      end = start - swatch - 2 * Self.gap
    }
  }
}
