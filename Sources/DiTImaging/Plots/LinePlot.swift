/// A chart of curves over one axis, with ticks, a title and a legend.
///
///     LinePlot(title: "loss", xTitle: "step", yScale: .logarithmic, series: [.init("training", points)]).rendered()
///
/// Rendering depends on nothing but the values.
public struct LinePlot: Sendable {
  /// Points of one color.
  public struct Series: Sendable {
    public enum Mark: Sendable {
      /// A line through the points, in their order.
      case line
      case dots
      /// Dots, each with a line down to the axis.
      case stems
    }

    /// In the legend; nil keeps the series out of it.
    public var name: String?
    /// A point that has no place on its axis is left out, and interrupts a line.
    public var points: [(x: Double, y: Double)]
    public var mark: Mark
    /// A line's thickness, a dot's diameter.
    public var thickness: Double
    /// The next of ``PlotColor/series`` if nil.
    public var color: PlotColor?

    public init(
      _ name: String?, _ points: [(x: Double, y: Double)], _ mark: Mark = .line, thickness: Double = 2,
      color: PlotColor? = nil
    ) {
      self.name = name
      self.points = points
      self.mark = mark
      self.thickness = thickness
      self.color = color
    }
  }

  public var title: String
  /// What the horizontal axis shows.
  public var xTitle: String
  public var xScale: PlotScale
  public var yScale: PlotScale
  /// Values that both ends of the vertical axis are to reach, whatever the series hold.
  public var yCovers: [Double]
  /// Drawn in this order.
  public var series: [Series]
  /// Of the picture, in pixels.
  public var width: Int
  public var height: Int

  public init(
    title: String, xTitle: String, xScale: PlotScale = .linear, yScale: PlotScale = .linear, yCovers: [Double] = [],
    series: [Series], width: Int = 800, height: Int = 500
  ) {
    precondition(width >= 200 && height >= 100, "a chart of \(width)×\(height)")
    self.title = title
    self.xTitle = xTitle
    self.xScale = xScale
    self.yScale = yScale
    self.yCovers = yCovers
    self.series = series
    self.width = width
    self.height = height
  }

  public func rendered() -> Image {
    let layout = LinePlotLayout(self)
    var canvas = PlotCanvas(width: width, height: height)
    layout.drawGrid(on: &canvas)
    for (index, series) in series.enumerated() { layout.draw(series, color(index), on: &canvas) }
    layout.drawLegend(
      series.enumerated().compactMap { index, series in
        series.name.map { LinePlotLayout.Entry(name: $0, color: color(index), mark: series.mark) }
      }, on: &canvas)
    return canvas.image
  }

  /// Where a point lies in the rendered picture, in pixels from its upper left corner; nil where it has no place.
  public func position(x: Double, y: Double) -> (x: Double, y: Double)? { LinePlotLayout(self).place((x, y)) }

  /// Series with a name of their own or a mark take the palette's colors in turn.
  private func color(_ index: Int) -> PlotColor {
    series[index].color
      ?? PlotColor.series[series[..<index].count { $0.color == nil } % PlotColor.series.count]
  }
}
