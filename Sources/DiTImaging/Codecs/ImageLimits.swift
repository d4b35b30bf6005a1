import DiTTensor

/// What is refused before it is decoded: checked against the file's size and the image's header, before memory of the
/// claimed size is asked for.
///
/// A file can promise far more than it holds. The defaults let through any photograph, and let no file take more than
/// half a gigabyte: an image that is fitted to a smaller size is not held whole where its format allows that, so that one
/// of 200 megapixels takes a few megabytes.
public struct ImageLimits: Equatable, Sendable {
  /// The most pixels of an image; 192 Mi (16384×12288, the sensors of 200 megapixels) by default.
  public var pixels: Int
  /// The longest side in pixels; 65,535 by default.
  public var side: Int
  /// The largest file, in bytes; 1 GiB by default, more than a PNG of 200 megapixels. A larger one is not read.
  public var fileBytes: Int
  /// The most memory decoding may take, in bytes: pixels and what the decoder holds, without the file; 512 MiB by
  /// default. Progressive JPEGs take 6 bytes of coefficients per pixel where chroma is not subsampled, 3 where it is halved
  /// both ways; lossless WebPs 4, and interlaced PNGs a byte per channel, fitted or not.
  public var memoryBytes: Int
  /// The most scans of a progressive JPEG, each of which costs a pass over the image; 100 by default (encoders make
  /// about 10).
  public var scans: Int

  /// A lossy WebP of more pixels than this, 64 Mi by default, is reduced while it is decoded where it is to be fitted to a
  /// small size; see ``Image/init(encoded:limits:fittedTo:reducing:)``.
  public var wholePixels: Int

  /// Limits; each must be at least 1.
  public init(
    pixels: Int = 3 << 26, side: Int = 65_535, fileBytes: Int = 1 << 30, memoryBytes: Int = 1 << 29, scans: Int = 100,
    wholePixels: Int = 1 << 26
  ) {
    precondition(min(pixels, side, fileBytes, memoryBytes, scans, wholePixels) >= 1, "a limit below 1")
    self.pixels = pixels
    self.side = side
    self.fileBytes = fileBytes
    self.memoryBytes = memoryBytes
    self.scans = scans
    self.wholePixels = wholePixels
  }

  /// Refuses a file that is too large.
  func check(fileBytes count: Int) throws(DiTError) {
    guard count <= fileBytes else { throw DiTError(image: nil, .fileTooLarge(bytes: count, maximum: fileBytes)) }
  }

  /// Refuses a header that claims too much; `decodingBytes` is what the decoder holds beside the pixels, `pixelBytes` what is
  /// kept of these: all of them by default.
  func check(_ header: ImageHeader, pixelBytes: Int? = nil, decodingBytes: Int) throws(DiTError) {
    let (width, height) = (header.width, header.height)
    guard max(width, height) <= side else {
      throw DiTError(image: nil, .sideTooLong(width: width, height: height, maximum: side))
    }
    guard width <= pixels / height else {
      throw DiTError(image: nil, .tooManyPixels(width: width, height: height, maximum: pixels))
    }
    let (whole, overflow) = (width * height).multipliedReportingOverflow(by: header.channels)
    let bytes = pixelBytes ?? whole
    let (total, overflow2) = bytes.addingReportingOverflow(decodingBytes)
    guard !overflow, !overflow2, total <= memoryBytes else {
      throw DiTError(image: nil, .tooMuchMemory(bytes: overflow || overflow2 ? .max : total, maximum: memoryBytes))
    }
  }
}
