/// A picture of many images of one size in rows and columns, with labels.
///
///     ImageGrid(samples, classNames: ["cat", "dog"]).rendered()   // one row per class, or one labeled cell per class
///
/// Small images are enlarged by a whole factor. Labels never touch an image: one that does not fit its place is shortened and ends in
/// dots. A label of ASCII is drawn by a font that is built in, another by a ``LabelFont``: rendering depends on nothing but the
/// arguments and, where a label needs ``LabelFont/system``, on the fonts of the machine.
public struct ImageGrid: Sendable {
  /// The images, row by row, all of one size and number of channels.
  public let images: [Image]
  /// The factor by which each image is enlarged.
  public let scale: Int

  private let layout: GridLayout

  private static let background: UInt8 = 250
  private static let frame: UInt8 = 200
  private static let ink: UInt8 = 32

  /// A grid of images.
  /// - Parameters:
  ///   - images: at least one, in reading order.
  ///   - columns: images in a full row.
  ///   - group: so many successive images belong together and start on a new row; `columns` if nil.
  ///   - rowLabels: none, or one per group, to the left of its first row.
  ///   - columnLabels: none, or one per column, above it.
  ///   - imageLabels: none, or one per image, above it.
  ///   - scale: the enlargement; ``Image/displayScale(width:height:)`` if nil.
  ///   - font: what draws labels that are not of ASCII alone.
  public init(
    _ images: [Image], columns: Int, group: Int? = nil, rowLabels: [String] = [], columnLabels: [String] = [],
    imageLabels: [String] = [], scale: Int? = nil, font: LabelFont = .system
  ) {
    guard let first = images.first else { preconditionFailure("a grid of no images") }
    let group = group ?? columns
    let scale = scale ?? Image.displayScale(width: first.width, height: first.height)
    precondition(columns >= 1 && group >= 1 && scale >= 1, "columns \(columns), group \(group), scale \(scale)")
    Self.checkSizes(images, like: first)
    Self.checkCount(of: rowLabels, "row", (images.count + group - 1) / group)
    Self.checkCount(of: columnLabels, "column", columns)
    Self.checkCount(of: imageLabels, "image", images.count)
    self.images = images
    self.scale = scale
    layout = GridLayout(
      cellWidth: first.width * scale, cellHeight: first.height * scale, count: images.count, columns: columns,
      group: group, rowLabels: rowLabels, columnLabels: columnLabels, imageLabels: imageLabels,
      font: font)
  }

  /// A grid of samples in class-major order: the same number of successive images for each name.
  ///
  /// One image per class: a compact grid with the name above each. Several: one row per class with the name to its left, wrapped at
  /// `maximumColumns`; a single class fills a compact grid.
  public init(
    _ images: [Image], classNames: [String], maximumColumns: Int = 20, scale: Int? = nil, font: LabelFont = .system
  ) {
    precondition(
      !classNames.isEmpty && images.count % classNames.count == 0,
      "\(images.count) images for \(classNames.count) classes")
    let count = images.count / classNames.count
    let compact = min(Self.compactColumns(for: images.count), maximumColumns)
    if count == 1 {
      self.init(images, columns: compact, imageLabels: classNames, scale: scale, font: font)
    } else {
      let columns = classNames.count == 1 ? compact : min(count, maximumColumns)
      self.init(images, columns: columns, group: count, rowLabels: classNames, scale: scale, font: font)
    }
  }

  /// The number of columns for a nearly square or wider grid that leaves the fewest places empty (5 for 10 images, 7 for 13).
  public static func compactColumns(for count: Int) -> Int {
    precondition(count >= 1, "a grid of \(count) images")
    let least = Int(Double(count).squareRoot().rounded(.up))
    let candidates = least...min(count, 2 * least)
    return candidates.min { (count + $0 - 1) / $0 * $0 < (count + $1 - 1) / $1 * $1 } ?? least
  }

  /// The width of the rendered picture.
  public var width: Int { layout.width }

  /// The height of the rendered picture.
  public var height: Int { layout.height }

  /// Where the upper left pixel of an image lies in the rendered picture; the image covers `scale` times its size from there.
  public func origin(ofImage index: Int) -> (x: Int, y: Int) {
    precondition(images.indices.contains(index), "image \(index) of \(images.count)")
    return layout.origin(of: index)
  }

  /// The picture: light background, a thin frame around each image, dark text; as many channels as the images.
  public func rendered() -> Image {
    var canvas = Image(width: width, height: height, channels: images[0].channels, shade: Self.background)
    for (index, image) in images.enumerated() {
      let (x, y) = layout.origin(of: index)
      canvas.fill(
        x: x - 1, y: y - 1, width: layout.cellWidth + 2, height: layout.cellHeight + 2, shade: Self.frame)
      canvas.draw(image.scaled(by: scale), x: x, y: y)
    }
    for (index, text) in layout.rowLabels.enumerated() {
      let (x, baseline) = layout.rowLabelOrigin(of: index)
      canvas.draw(text, x: x, baseline: baseline, shade: Self.ink)
    }
    for (index, text) in layout.columnLabels.enumerated() {
      let (x, baseline) = layout.columnLabelOrigin(of: index)
      canvas.draw(text, x: x, baseline: baseline, shade: Self.ink)
    }
    for (index, text) in layout.imageLabels.enumerated() {
      let (x, baseline) = layout.imageLabelOrigin(of: index)
      canvas.draw(text, x: x, baseline: baseline, shade: Self.ink)
    }
    return canvas
  }

  private static func checkSizes(_ images: [Image], like first: Image) {
    for (index, image) in images.enumerated() {
      precondition(
        image.width == first.width && image.height == first.height && image.channels == first.channels,
        """
        image \(index) is \(image.height)×\(image.width)×\(image.channels), \
        the first \(first.height)×\(first.width)×\(first.channels)
        """)
    }
  }

  private static func checkCount(of labels: [String], _ kind: String, _ count: Int) {
    precondition(labels.isEmpty || labels.count == count, "\(labels.count) \(kind) labels for \(count)")
  }
}
