// Pictures in: PNG and JPEG, from memory and files.

extension Image {
  /// An image from a PNG or a JPEG of any kind, 8 bits a sample: 1 channel for grey files, 3 for others.
  ///
  /// The first bytes say which it is. What is converted:
  /// - PNG: palettes become RGB; 16-bit samples are rounded to 8 (x·255/65535); alpha and transparent colours are
  ///   composited on white, in the stored values; gamma and colour profiles are ignored; of an animation the default image
  ///   is read.
  /// - JPEG: YCbCr becomes RGB; so do CMYK and YCCK, as (1−c)(1−k) without a profile, inks inverted where there is an
  ///   Adobe marker; Exif orientation is applied.
  ///
  /// Data that are missing or damaged are an error, never a guess: a JPEG has no checksums, so libjpeg's warnings count.
  /// - Parameters:
  ///   - data: the whole file.
  ///   - limits: what is refused before it is decoded.
  /// - Throws: ``ImagingError``.
  public init(encoded data: [UInt8], limits: ImageLimits = ImageLimits()) throws(ImagingError) {
    try limits.check(fileBytes: data.count)
    switch try ImageFormat(of: data) {
    case .png: self = try PNGCodec.decode(data, limits: limits).image()
    case .jpeg: self = try JPEGCodec.decode(data, limits: limits).upright
    }
  }

  /// An image from a PNG or a JPEG, fitted to a size as ``fitted(width:height:)`` does.
  /// - Parameters:
  ///   - data: the whole file.
  ///   - limits: what is refused before it is decoded.
  ///   - size: width and height of the result.
  ///   - reducing: whether a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (libjpeg's scaled transforms): the
  ///     smallest at least twice as wide and high as the result. Faster for large pictures; sharp edges may differ by
  ///     some 20 of 255 levels.
  /// - Throws: ``ImagingError``.
  public init(
    encoded data: [UInt8], limits: ImageLimits = ImageLimits(), fittedTo size: (width: Int, height: Int),
    reducing: Bool = false
  ) throws(ImagingError) {
    precondition(size.width > 0 && size.height > 0, "an image fitted to \(size.height)×\(size.width)")
    try limits.check(fileBytes: data.count)
    switch try ImageFormat(of: data) {
    case .png: self = try PNGCodec.decode(data, limits: limits).image().fitted(width: size.width, height: size.height)
    case .jpeg: self = try JPEGCodec.decode(data, limits: limits, target: reducing ? size : nil).fitted(to: size)
    }
  }

  /// An image from a PNG or JPEG file; see ``init(encoded:limits:)``.
  ///
  /// A regular file is wanted: a folder, pipe or device is refused at once.
  /// - Throws: ``ImagingError`` that names the file.
  public init(contentsOf path: String, limits: ImageLimits = ImageLimits()) throws(ImagingError) {
    do {
      self = try Image(encoded: ImageFile.contents(of: path, limits: limits).bytes, limits: limits)
    } catch {
      throw error.at(path)
    }
  }

  /// An image from a PNG or JPEG file, fitted to a size; see ``init(encoded:limits:fittedTo:reducing:)``.
  /// - Throws: ``ImagingError`` that names the file.
  public init(
    contentsOf path: String, limits: ImageLimits = ImageLimits(), fittedTo size: (width: Int, height: Int),
    reducing: Bool = false
  ) throws(ImagingError) {
    do {
      let data = try ImageFile.contents(of: path, limits: limits).bytes
      self = try Image(encoded: data, limits: limits, fittedTo: size, reducing: reducing)
    } catch {
      throw error.at(path)
    }
  }
}

extension PNGCodec.Raster {
  /// Alpha composited on white, rounded: (c·a + 255·(255−a)) / 255.
  func image() -> Image {
    guard channels % 2 == 0 else { return Image(width: width, height: height, channels: channels, pixels: pixels) }
    var result: [UInt8] = []
    result.reserveCapacity(width * height * (channels - 1))
    for start in stride(from: 0, to: pixels.count, by: channels) {
      let alpha = Int(pixels[start + channels - 1])
      for channel in 0..<channels - 1 {
        result.append(UInt8((Int(pixels[start + channel]) * alpha + 255 * (255 - alpha) + 127) / 255))
      }
    }
    return Image(width: width, height: height, channels: channels - 1, pixels: result)
  }
}
