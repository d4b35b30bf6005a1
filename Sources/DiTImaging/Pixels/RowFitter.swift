/// Fits an image to a size while its rows arrive from top to bottom: the bytes of ``Image/fitted(width:height:)``, of an
/// image of which no more than a row need be in memory.
struct RowFitter {
  private let columns, rows: Resampling
  private let width, channels: Int
  /// Sums of rows for the results that are being made: result i in line i mod 2, as a source row is part of two at most.
  private var lines: [[Float]]
  private var result: [UInt8]
  /// The source row that comes next, and the first result that is not finished.
  private var source = 0
  private var next = 0

  /// - Parameters:
  ///   - extent: the image's size before it was rounded up.
  ///   - size: width and height of the result.
  ///   - orientation: by which the result is yet to be turned.
  /// - Precondition: ``takes(_:to:)``.
  init(
    width: Int, height: Int, channels: Int, extent: (width: Double, height: Double), to size: (width: Int, height: Int),
    before orientation: Orientation
  ) {
    precondition(Self.takes(extent, to: size), "an image of \(extent) that must grow to \(size)")
    let ratio = min(extent.width / Double(size.width), extent.height / Double(size.height))
    columns = Resampling(
      from: extent.width, to: size.width, ratio: ratio, isReversed: orientation.reversesStoredColumns)
    rows = Resampling(from: extent.height, to: size.height, ratio: ratio, isReversed: orientation.reversesStoredRows)
    (self.width, self.channels) = (width, channels)
    lines = [[Float]](repeating: [Float](repeating: 0, count: columns.sources.count * channels), count: 2)
    result = [UInt8](repeating: 0, count: size.width * size.height * channels)
  }

  /// Whether an image is fitted row by row: not one that must grow, which is smaller than its result and better held whole.
  static func takes(_ extent: (width: Double, height: Double), to size: (width: Int, height: Int)) -> Bool {
    extent.width >= Double(size.width) && extent.height >= Double(size.height)
  }

  /// The bytes that fitting takes: the result, two lines of sums, a row of `rowBytes`, and 48 for each source pixel and two
  /// for each result along an axis, while their weights are made.
  static func memoryBytes(
    width: Int, height: Int, channels: Int, rowBytes: Int, to size: (width: Int, height: Int)
  ) -> Int {
    let axes = width + height + 2 * (size.width + size.height)
    return size.width * size.height * channels + 2 * MemoryLayout<Float>.size * width * channels + rowBytes + 48 * axes
  }

  /// Takes the next row, width·channels samples.
  mutating func add(_ row: Span<UInt8>) {
    precondition(row.count == width * channels, "a row of \(row.count) samples of \(width * channels)")
    let used = row.extracting(columns.sources.lowerBound * channels..<columns.sources.upperBound * channels)
    var index = next
    while index < rows.count {
      let taps = rows.taps(index)
      let place = taps.startIndex + source - taps[taps.startIndex].source
      guard place >= taps.startIndex else { break }
      if place < taps.endIndex {
        add(used, weight: taps[place].weight, to: index % 2, isFirst: place == taps.startIndex)
      }
      if place >= taps.endIndex - 1 { finish(index) }
      index += 1
    }
    source += 1
  }

  /// line[i] += weight·row[i], from 0 where it is the first.
  private mutating func add(_ row: Span<UInt8>, weight: Float, to line: Int, isFirst: Bool) {
    var sums = lines[line].mutableSpan
    if isFirst {
      for index in row.indices { sums[index] = 0 }
    }
    for index in row.indices { sums[index] += weight * Float(row[index]) }
  }

  private mutating func finish(_ index: Int) {
    columns.write(lines[index % 2], channels: channels, to: &result, at: index * columns.count * channels)
    next = index + 1
  }

  /// The fitted image, after all rows.
  var image: Image {
    precondition(next == rows.count, "\(next) of \(rows.count) rows are made")
    return Image(width: columns.count, height: rows.count, channels: channels, pixels: result)
  }
}
