import DiTImaging
import Foundation
import Testing

extension Image {
  /// The color at a place, rounded down to a pixel.
  fileprivate func color(_ place: (x: Double, y: Double)) -> PlotColor {
    let (row, column) = (Int(place.y), Int(place.x))
    return PlotColor(
      red: self[row: row, column: column, channel: 0], green: self[row: row, column: column, channel: 1],
      blue: self[row: row, column: column, channel: 2])
  }
}

private let white = PlotColor(red: 255, green: 255, blue: 255)
private let grid = PlotColor(red: 228, green: 228, blue: 228)

@Suite("Line plots") struct LinePlotTests {
  private func plot(
    _ points: [(x: Double, y: Double)], x: PlotScale = .linear, y: PlotScale = .linear,
    mark: LinePlot.Series.Mark = .line
  ) -> LinePlot {
    LinePlot(
      title: "title", xTitle: "x", xScale: x, yScale: y, series: [.init("series", points, mark, thickness: 4)])
  }

  @Test("The line's color lies at the data's position and nowhere beside it")
  func colorsLieOnTheLine() throws {
    let plot = plot([(0, 0), (10, 100)])
    let image = plot.rendered()
    #expect(image.width == 800 && image.height == 500 && image.channels == 3)
    for share in [0.25, 0.5, 0.85] {
      let on = try #require(plot.position(x: 10 * share, y: 100 * share))
      #expect(image.color(on) == .blue, "\(share)")
      #expect(image.color((on.x + 13, on.y + 9)) == white, "\(share)")
    }
  }

  /// A series of dots colors its points and nothing between; stems reach the axis.
  @Test("Dots color only their points, and stems reach down to the axis")
  func dotsAndStems() throws {
    let points: [(x: Double, y: Double)] = [(0, 0), (3, 70), (10, 100)]
    let (dots, stems) = (plot(points, mark: .dots), plot(points, mark: .stems))
    let at = try #require(dots.position(x: 3, y: 70))
    let below = try #require(dots.position(x: 3, y: 35))
    #expect(dots.rendered().color(at) == .blue && dots.rendered().color(below) == white)
    #expect(stems.rendered().color(at) == .blue && stems.rendered().color(below) == .stem)
  }

  @Test("On a logarithmic axis equal factors are equal distances, and ticks stand at powers of ten")
  func logarithmsMakeFactorsEqual() throws {
    let plot = plot([(1, 0.001), (100, 1)], x: .logarithmic, y: .logarithmic)
    let (low, high) = try (#require(plot.position(x: 1, y: 0.001)), #require(plot.position(x: 100, y: 1)))
    let middle = try #require(plot.position(x: 10, y: 0.0316227766))
    #expect(abs(middle.x - (low.x + high.x) / 2) < 1e-6 && abs(middle.y - (low.y + high.y) / 2) < 1e-5)
    #expect(plot.rendered().color(middle) == .blue)
    #expect(plot.position(x: 0, y: 1) == nil && plot.position(x: 1, y: -1) == nil)
    // A tick at 0.01, none at 0.013.
    let (tick, other) = try (#require(plot.position(x: 70, y: 0.01)), #require(plot.position(x: 70, y: 0.013)))
    #expect(plot.rendered().color(tick) == grid && plot.rendered().color(other) == white)
  }

  /// 0 to 1000 has its lines at each hundred or two; 0.0…0.02 at multiples of 0.005.
  @Test("Grid lines stand at round values, and the axes reach to the round values beyond the data")
  func ticksAreRound() throws {
    let plot = plot([(0, 0.0002), (999, 0.0199)])
    let image = plot.rendered()
    for x in [200.0, 400, 600, 800] {
      #expect(image.color(try #require(plot.position(x: x, y: 0.0175))) == grid, "\(x)")
    }
    // The axis reaches to the round values beyond what it shows.
    let (bottom, top) = (try #require(plot.position(x: 500, y: 0)), try #require(plot.position(x: 50, y: 0.02)))
    #expect(image.color((500, bottom.y)) != white && image.color((500, bottom.y + 3)) == white)
    #expect(image.color((500, top.y)) == grid && image.color((505, top.y - 3)) == white)
  }

  /// A point without a place interrupts the line; one alone is a dot.
  @Test("A value that is not finite interrupts the line, and a point alone is a dot")
  func missingValuesInterruptTheLine() throws {
    let plot = plot([(0, 1), (4, 1), (5, .nan), (6, 1), (7, .infinity), (8, 1), (10, 2)])
    let image = plot.rendered()
    for (x, isDrawn) in [(2.0, true), (5, false), (6, true), (7, false), (8, true)] {
      #expect((image.color(try #require(plot.position(x: x, y: 1))) == .blue) == isDrawn, "\(x)")
    }
  }

  /// A hundred thousand points keep what each column of pixels spans.
  @Test("A hundred thousand points keep the extremes of each column of pixels")
  func manyPointsKeepTheirExtremes() throws {
    var points = (0..<100_000).map { (x: Double($0), y: 0.5) }
    points[31_415].y = 1
    points[77_777].y = 0
    let plot = plot(points)
    let image = plot.rendered()
    for (x, y) in [(31_415.0, 0.9), (77_777, 0.1), (50_000, 0.5)] {
      #expect(image.color(try #require(plot.position(x: x, y: y))) == .blue, "\(x)")
    }
    #expect(image.color(try #require(plot.position(x: 50_500, y: 0.9))) == white)
  }

  @Test("Plots of no point, of one point and of a vanishing range still render")
  func nothingAndOneValueHaveAxesToo() {
    #expect(plot([]).rendered().width == 800)
    #expect(plot([(3, 3)], y: .logarithmic).rendered() != plot([]).rendered())
    #expect(plot([(0, 1e300), (1, 1.0000000001e300)]).rendered().height == 500)
  }

  @Test("Each series has a color of its own, shown in the legend")
  func seriesDifferAndTheLegendNamesThem() {
    let lines = [1.0, 2, 3].map { LinePlot.Series("line \($0)", [(0, $0), (1, $0)], thickness: 3) }
    let plot = LinePlot(title: "", xTitle: "", series: lines)
    let image = plot.rendered()
    for (index, y) in [1.0, 2, 3].enumerated() {
      let place = plot.position(x: 0.5, y: y) ?? (0, 0)
      #expect(image.color(place) == PlotColor.series[index])
    }
    // Its swatch in the title's line, 12 to 26 pixels from the top.
    for color in PlotColor.series[..<3] {
      #expect((400..<800).contains { image.color((Double($0), 19)) == color }, "\(color)")
    }
  }

  @Test("Stacking charts puts their pixels one below the other")
  func stacksOfCharts() {
    let (a, b) = (plot([(0, 0), (1, 1)]).rendered(), plot([(0, 1), (1, 0)]).rendered())
    let stack = Image.stacked([a, b])
    #expect(stack.width == 800 && stack.height == 1000 && stack.pixels == a.pixels + b.pixels)
  }
}

@Suite("Heat maps") struct HeatMapTests {
  /// matplotlib's own colors of viridis, at i/255.
  @Test("The color map is matplotlib's viridis within two levels, clamped outside [0, 1]")
  func viridis() {
    let expected: [(Int, [Int])] = [
      (0, [68, 1, 84]), (20, [72, 29, 111]), (77, [52, 96, 141]), (128, [33, 145, 140]), (200, [112, 207, 87]),
      (255, [253, 231, 37]),
    ]
    for (place, rgb) in expected {
      let found = ColorMap.viridis.color(Double(place) / 255)
      let difference = zip([found.red, found.green, found.blue], rgb).map { abs(Int($0) - $1) }.max() ?? 255
      #expect(difference <= 2, "\(place): \(found)")
    }
    #expect(ColorMap.viridis.color(-1) == ColorMap.viridis.color(0))
    #expect(ColorMap.viridis.color(2) == ColorMap.viridis.color(1))
  }

  @Test(
    "Each cell has its value's color, NaN is gray, and the color bar spans the scale",
    arguments: [PlotScale.linear, .logarithmic])
  func cellsHaveTheirColors(_ scale: PlotScale) {
    let values = [[1, 2, 4, 8, 16, 100.0], [100, 50, 25, 10, .nan, 5]]
    let plot = HeatMapPlot(
      title: "maps", panels: values.map { .init(caption: "a", values: $0) }, rows: 2, columns: 3, panelsPerRow: 1,
      scale: scale)
    #expect(plot.cell == 40)
    let image = plot.rendered()
    for (panel, values) in values.enumerated() {
      let (left, top) = plot.origin(ofPanel: panel)
      for (place, value) in values.enumerated() {
        let share = scale == .linear ? (value - 1) / 99 : log10(value) / 2
        let expected =
          value.isNaN ? PlotColor(red: 216, green: 216, blue: 216) : ColorMap.viridis.color(share)
        for (x, y) in [(0, 0), (39, 39)] {
          let found = image.color((Double(left + place % 3 * 40 + x), Double(top + place / 3 * 40 + y)))
          #expect(found == expected, "panel \(panel), place \(place)")
        }
      }
    }
    // The bar has both ends of the scale, right of the maps.
    let right = plot.origin(ofPanel: 0).x + 150
    let colors = (right..<image.width).flatMap { x in
      (0..<image.height).map { image.color((Double(x), Double($0))) }
    }
    #expect(colors.contains { $0.red > 250 && $0.blue < 40 } && colors.contains { $0.red < 70 && $0.green < 5 })
  }
}
