import DiTTensor

// Pictures in: PNG, JPEG and WebP, from memory and files.

extension Image {
  /// An image from a PNG, a JPEG or a WebP of any kind, 8 bits a sample: 1 channel for gray files, 3 for others.
  ///
  /// The first bytes say which it is. Exif's orientation is applied. What is converted:
  /// - PNG: palettes become RGB; 16-bit samples are rounded to 8 (x·255/65535); alpha and transparent colors are
  ///   composited on white, in the stored values; gamma and color profiles are ignored; of an animation the default image
  ///   is read.
  /// - JPEG: YCbCr becomes RGB; so do CMYK and YCCK, as (1−c)(1−k) without a profile, inks inverted where there is an
  ///   Adobe marker.
  /// - WebP, lossy and lossless: alpha is composited on white; of an animation the first frame is read, on a white canvas.
  ///
  /// Data that are missing or damaged are an error, never a guess: a JPEG has no checksums, so libjpeg's warnings count.
  /// - Parameters:
  ///   - data: the whole file.
  ///   - limits: what is refused before it is decoded.
  /// - Throws: `DiTError`.
  public init(encoded data: [UInt8], limits: ImageLimits = ImageLimits()) throws(DiTError) {
    try limits.check(fileBytes: data.count)
    switch try ImageFormat(of: data) {
    case .png: self = try PNGCodec.decode(data, limits: limits)
    case .jpeg: self = try JPEGCodec.decode(data, limits: limits)
    case .webp: self = try WebPCodec.decode(data, limits: limits)
    }
  }

  /// An image from a PNG, a JPEG or a WebP, fitted to a size as ``fitted(width:height:)`` does.
  ///
  /// A PNG that is not interlaced and a JPEG are fitted while they are decoded, row by row, so that the image is never held
  /// whole; the result is that of the whole image, to the bit. A lossy WebP without alpha of more than 64 Mi pixels is
  /// averaged by libwebp at first, to at least four times the size, in its own color space: of a photograph of 108 megapixels
  /// no sample is more than 3 levels away. Turned pictures are turned after they were fitted.
  /// - Parameters:
  ///   - data: the whole file.
  ///   - limits: what is refused before it is decoded.
  ///   - size: width and height of the result.
  ///   - reducing: whether a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (libjpeg's scaled transforms): the
  ///     smallest at least twice as wide and high as the result. Faster for large pictures; sharp edges may differ by
  ///     some 20 of 255 levels.
  /// - Throws: `DiTError`.
  public init(
    encoded data: [UInt8], limits: ImageLimits = ImageLimits(), fittedTo size: (width: Int, height: Int),
    reducing: Bool = false
  ) throws(DiTError) {
    precondition(size.width > 0 && size.height > 0, "an image fitted to \(size.height)×\(size.width)")
    try limits.check(fileBytes: data.count)
    switch try ImageFormat(of: data) {
    case .png: self = try PNGCodec.fitted(PNGSource(data), limits: limits, to: size)
    case .jpeg: self = try JPEGCodec.fitted(data, limits: limits, to: size, reducing: reducing)
    case .webp: self = try WebPCodec.fitted(data, limits: limits, to: size)
    }
  }

  /// An image from a PNG, JPEG or WebP file; see ``init(encoded:limits:)``.
  ///
  /// A regular file is wanted: a folder, pipe or device is refused at once.
  /// - Throws: `DiTError` that names the file.
  public init(contentsOf path: String, limits: ImageLimits = ImageLimits()) throws(DiTError) {
    do {
      self = try Image(encoded: ImageFile.contents(of: path, limits: limits).bytes, limits: limits)
    } catch {
      throw error.at(path)
    }
  }

  /// An image from a PNG, JPEG or WebP file, fitted to a size; see ``init(encoded:limits:fittedTo:reducing:)``. A PNG is read
  /// a little at a time; of the others the file is held.
  /// - Throws: `DiTError` that names the file.
  public init(
    contentsOf path: String, limits: ImageLimits = ImageLimits(), fittedTo size: (width: Int, height: Int),
    reducing: Bool = false
  ) throws(DiTError) {
    do {
      let file = try ImageFile.open(path, limits: limits)
      if try ImageFormat(of: ImageFile.bytes(of: file, upTo: 64)) == .png {
        precondition(size.width > 0 && size.height > 0, "an image fitted to \(size.height)×\(size.width)")
        self = try PNGCodec.fitted(PNGSource(file), limits: limits, to: size)
        _ = file.size  // open until here
      } else {
        self = try Image(encoded: ImageFile.bytes(of: file), limits: limits, fittedTo: size, reducing: reducing)
      }
    } catch {
      throw error.at(path)
    }
  }
}
