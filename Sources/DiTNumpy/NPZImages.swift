import DiTFiles
import DiTTensor

/// Pictures of 8 bits, an array `|u1` (N, H, W, C): of a stored entry they stay in the file, which may be larger than memory.
public struct NPZImages: Sendable {
  public let count, height, width, channels: Int
  private let file: FileBytes
  /// The elements' place.
  private let start: Int

  /// Bytes of a picture.
  public var size: Int { height * width * channels }

  /// - Throws: `DiTError` for another element type, order or number of extents, and where there are no elements.
  init(_ file: FileBytes, _ header: NPYHeader, start: Int, path: String, part: DiTError.Part) throws(DiTError) {
    let shape = header.shape
    guard header.type == .uint8, !header.isFortranOrder, shape.count == 4, !shape.contains(0) else {
      let found = "\(header.type.rawValue) \(shape)\(header.isFortranOrder ? ", Fortran order" : "")"
      throw DiTError(file: path, part, expected: "|u1 (N, H, W, C), none of them 0", found: found)
    }
    (count, height, width, channels) = (shape[0], shape[1], shape[2], shape[3])
    (self.file, self.start) = (file, start)
  }

  /// Picture `index`, (C, H, W).
  public func copy(_ index: Int, into pixels: inout MutableSpan<UInt8>) {
    precondition(0..<count ~= index && pixels.count == size, "picture \(index) of \(count), \(pixels.count) bytes")
    let area = height * width
    let first = start + index * size
    file.withBytes(first..<first + size) { bytes in
      let source = bytes.array
      for channel in 0..<channels {
        for pixel in 0..<area { pixels[channel * area + pixel] = source[pixel * channels + channel] }
      }
    }
  }

  /// Lets the system take back memory that mapped pictures were read from.
  public func releasePages() { file.releasePages(start..<start + count * size) }
}
