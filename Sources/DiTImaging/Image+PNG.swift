// PNG in and out of memory and files. What is written depends on nothing but the image and the text: no time, no path.

extension Image {
  /// The largest image that is read unless the caller says otherwise: 64 Mi pixels (8192×8192).
  public static let defaultMaximumPixels = 1 << 26

  /// An image from a PNG of any kind.
  ///
  /// Grey files give 1 channel, RGB and palette files 3. 16-bit samples are rounded to 8 bits, transparency is composited on white
  /// (in the stored values), and gamma and colour profiles are ignored. The first frame of an animation is read.
  /// - Throws: ``ImagingError`` when the data is not a PNG, is truncated or damaged in any chunk, or claims more than `maximumPixels`, which is
  ///   checked before memory of that size is asked for.
  public init(pngData data: [UInt8], maximumPixels: Int = defaultMaximumPixels) throws(ImagingError) {
    let raster = try PNGCodec.decode(data, maximumPixels: maximumPixels)
    let hasAlpha = raster.channels % 2 == 0
    self.init(
      width: raster.width, height: raster.height, channels: hasAlpha ? raster.channels - 1 : raster.channels,
      pixels: hasAlpha ? Self.onWhite(raster.pixels, channels: raster.channels) : raster.pixels)
  }

  /// An image from a PNG file; see ``init(pngData:maximumPixels:)``.
  public static func readPNG(
    contentsOf path: String, maximumPixels: Int = defaultMaximumPixels
  ) throws(ImagingError) -> Image {
    do {
      // At most 8 bytes a pixel before compression; the rest is for chunks that are not pixels.
      let limit = 8 * min(maximumPixels, 1 << 58) + (1 << 26)
      return try Image(pngData: File.contents(of: path, maximumBytes: limit), maximumPixels: maximumPixels)
    } catch {
      throw error.at(path)
    }
  }

  /// The image as an 8-bit PNG, with text entries.
  public func pngData(text: [(key: String, value: String)] = []) throws(ImagingError) -> [UInt8] {
    var chunks: [UInt8] = []
    for (key, value) in text { chunks += try PNGText(key: key, value: value).chunk() }
    return try PNGCodec.encode(self, chunks: chunks)
  }

  /// Writes the image as an 8-bit PNG, with text entries such as the seed it was made with.
  ///
  /// The file appears whole or not at all: it is written beside its place, flushed, then renamed.
  public func writePNG(to path: String, text: [(key: String, value: String)] = []) throws(ImagingError) {
    do {
      try File.write(pngData(text: text), to: path)
    } catch {
      throw error.at(path)
    }
  }

  /// Composites on white, rounded: (c·a + 255·(255−a)) / 255; (…, channels with alpha last) → (…, channels−1).
  private static func onWhite(_ pixels: [UInt8], channels: Int) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(pixels.count / channels * (channels - 1))
    for start in stride(from: 0, to: pixels.count, by: channels) {
      let alpha = Int(pixels[start + channels - 1])
      for channel in 0..<channels - 1 {
        result.append(UInt8((Int(pixels[start + channel]) * alpha + 255 * (255 - alpha) + 127) / 255))
      }
    }
    return result
  }
}
