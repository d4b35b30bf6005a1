import DiTImaging
import DiffusionTransformers
import Foundation

/// The picture of a schedule: ᾱ and β over t, one above the other, with a stem and a dot for each kept step.
enum SchedulePlot {
  private static let width = 800
  private static let height = 260

  static func picture(_ noise: NoiseSchedule, _ kept: KeptSteps) -> Image {
    let timesteps = kept.rows.map(\.t)
    let largest = noise.betas.reduce(0, max)
    let last = noise.steps - 1
    let panels = [
      panel(noise.alphasCumprod, top: 1, timesteps, curve: .blue),
      panel(noise.betas, top: largest, timesteps, curve: .orange),
    ]
    let labels = [
      String(format: "alpha-bar, 0 to 1, over t = 0 to %d; %d kept", last, timesteps.count),
      String(format: "beta, 0 to %.3g, over t = 0 to %d", largest, last),
    ]
    return ImageGrid(panels, columns: 1, imageLabels: labels, scale: 1).rendered()
  }

  /// One curve with grid lines at each quarter of its height and each tenth of T.
  private static func panel(_ values: [Double], top: Double, _ timesteps: [Int], curve: Canvas.Colour) -> Image {
    var canvas = Canvas(width: width, height: height)
    let (left, right) = (12.0, Double(width) - 12)
    let (upper, lower) = (12.0, Double(height) - 12)
    func place(_ t: Double) -> (x: Double, y: Double) {
      let below = values[Int(t)]
      let above = values[min(Int(t) + 1, values.count - 1)]
      let value = below + (above - below) * (t - t.rounded(.down))
      let share = values.count > 1 ? t / Double(values.count - 1) : 0.5
      return (left + share * (right - left), lower - value / top * (lower - upper))
    }
    for quarter in 0...4 {
      let y = lower - Double(quarter) / 4 * (lower - upper)
      canvas.line(from: (left, y), to: (right, y), thickness: 1, .grid)
    }
    for tenth in 0...10 {
      let x = left + Double(tenth) / 10 * (right - left)
      canvas.line(from: (x, upper), to: (x, lower), thickness: 1, .grid)
    }
    for t in timesteps {
      let dot = place(Double(t))
      canvas.line(from: dot, to: (dot.x, lower), thickness: 1, .stem)
    }
    var from = place(0)
    for column in 1..<max(2, Int(right - left)) {
      let to = place(Double(column) / (right - left - 1) * Double(values.count - 1))
      canvas.line(from: from, to: to, thickness: 2.5, curve)
      from = to
    }
    let radius = min(4.5, max(1.5, (right - left) / Double(3 * timesteps.count)))
    for t in timesteps { canvas.disc(at: place(Double(t)), radius: radius, .dot) }
    return canvas.image
  }
}

/// A white sheet to draw on. Everything is drawn three times as large and averaged down, which smooths edges.
private struct Canvas {
  struct Colour {
    let red, green, blue: UInt8

    static let grid = Colour(red: 228, green: 228, blue: 228)
    static let stem = Colour(red: 170, green: 176, blue: 186)
    static let blue = Colour(red: 38, green: 104, blue: 184)
    static let orange = Colour(red: 208, green: 112, blue: 24)
    static let dot = Colour(red: 24, green: 28, blue: 36)
  }

  private static let factor = 3
  private let width: Int
  private let height: Int
  private var large: Image

  init(width: Int, height: Int) {
    self.width = width
    self.height = height
    large = Image(width: width * Self.factor, height: height * Self.factor, channels: 3, shade: 255)
  }

  /// A line with round ends.
  mutating func line(
    from: (x: Double, y: Double), to: (x: Double, y: Double), thickness: Double, _ colour: Colour
  ) {
    let (dx, dy) = (to.x - from.x, to.y - from.y)
    let count = max(1, Int((hypot(dx, dy) * Double(Self.factor)).rounded(.up)))
    for index in 0...count {
      let share = Double(index) / Double(count)
      disc(at: (from.x + share * dx, from.y + share * dy), radius: thickness / 2, colour)
    }
  }

  mutating func disc(at centre: (x: Double, y: Double), radius: Double, _ colour: Colour) {
    let scale = Double(Self.factor)
    let (x, y, r) = (centre.x * scale, centre.y * scale, radius * scale)
    let rows = max(0, Int(y - r))..<max(0, min(large.height, Int(y + r) + 1))
    let columns = max(0, Int(x - r))..<max(0, min(large.width, Int(x + r) + 1))
    for row in rows {
      for column in columns where hypot(Double(column) + 0.5 - x, Double(row) + 0.5 - y) <= r {
        large[row: row, column: column, channel: 0] = colour.red
        large[row: row, column: column, channel: 1] = colour.green
        large[row: row, column: column, channel: 2] = colour.blue
      }
    }
  }

  /// The sheet at its own size.
  var image: Image {
    var image = Image(width: width, height: height, channels: 3, shade: 0)
    let (factor, area) = (Self.factor, Self.factor * Self.factor)
    for row in 0..<height {
      for column in 0..<width {
        for channel in 0..<3 {
          var sum = 0
          for place in 0..<area {
            sum += Int(
              large[row: row * factor + place / factor, column: column * factor + place % factor, channel: channel])
          }
          image[row: row, column: column, channel: channel] = UInt8((sum + area / 2) / area)
        }
      }
    }
    return image
  }
}
