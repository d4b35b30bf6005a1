// Resizing for training: one weighted sum per axis, rows first, of the stored values in Float. The order of sums is fixed.

extension Image {
  /// The image resized until it just covers width×height, and cut to that from its middle.
  ///
  /// The part that is kept is the largest centered rectangle of the wanted shape; its edges may lie inside pixels.
  /// - When it shrinks, a result is the mean over the area it covers, every pixel weighted by the exact part of it inside:
  ///   a box filter; where the ratio is whole, Pillow's `reduce`.
  /// - When it grows, results are bilinear between pixel centers at half-integers, the border repeated: Pillow's and
  ///   PyTorch's bilinear.
  /// - Where nothing is resized the cut falls between pixels, the odd one off at the right or bottom.
  ///
  /// Rounded half up.
  public func fitted(width: Int, height: Int) -> Image {
    fitted(width: width, height: height, before: .upright)
  }

  /// The same, of an image as it is stored, which is yet to be turned by `orientation`.
  func fitted(width: Int, height: Int, before orientation: Orientation) -> Image {
    fitted(width: width, height: height, extent: (Double(self.width), Double(self.height)), before: orientation)
  }

  /// The same, of an image that was reduced from one of `size` pixels; the two ratios may differ a little.
  func fitted(width: Int, height: Int, of size: (width: Double, height: Double)) -> Image {
    let ratio = min(size.width / Double(width), size.height / Double(height))
    let (across, down) = (Double(self.width) / size.width, Double(self.height) / size.height)
    return resampled(
      columns: Resampling(from: Double(self.width), to: width, ratio: ratio * across),
      rows: Resampling(from: Double(self.height), to: height, ratio: ratio * down))
  }

  /// The same, of an image whose last column or row is narrower than others: `extent` is its size in pixels, less than 1
  /// under its own. The result is yet to be turned by `orientation`.
  func fitted(
    width: Int, height: Int, extent: (width: Double, height: Double), before orientation: Orientation = .upright
  ) -> Image {
    precondition(width > 0 && height > 0, "an image fitted to \(height)×\(width)")
    guard Double(width) != extent.width || Double(height) != extent.height else { return self }
    // The axis that must be enlarged most is used whole, the other in part; both have that axis's ratio, old over new.
    let ratio = min(extent.width / Double(width), extent.height / Double(height))
    let columns = Resampling(
      from: extent.width, to: width, ratio: ratio, isReversed: orientation.reversesStoredColumns)
    let rows = Resampling(from: extent.height, to: height, ratio: ratio, isReversed: orientation.reversesStoredRows)
    return resampled(columns: columns, rows: rows)
  }

  private func resampled(columns: Resampling, rows: Resampling) -> Image {
    let used = columns.sources.lowerBound * channels..<columns.sources.upperBound * channels
    var line = [Float](repeating: 0, count: used.count)
    var result = [UInt8](repeating: 0, count: columns.count * rows.count * channels)
    for row in 0..<rows.count {
      for index in line.indices { line[index] = 0 }
      for tap in rows.taps(row) {
        let start = tap.source * width * channels
        Self.add(pixels, used.lowerBound + start, weight: tap.weight, to: &line)
      }
      columns.write(line, channels: channels, to: &result, at: row * columns.count * channels)
    }
    return Image(width: columns.count, height: rows.count, channels: channels, pixels: result)
  }

  /// line[i] += weight·pixels[start + i]
  private static func add(_ pixels: [UInt8], _ start: Int, weight: Float, to line: inout [Float]) {
    let row = pixels.span.extracting(start..<start + line.count)
    var sums = line.mutableSpan
    for index in row.indices { sums[index] += weight * Float(row[index]) }
  }
}
