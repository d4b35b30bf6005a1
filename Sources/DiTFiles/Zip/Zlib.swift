import CZlib

/// The door to zlib: CRC-32 and raw deflate data.
package enum Zlib {
  /// zlib takes lengths of 32 bits.
  private static let chunk = 1 << 30

  /// The CRC-32 of ZIP (polynomial 0xEDB88320, reflected) of `bytes`, or of all so far where `checksum` is that of the bytes
  /// before them.
  package static func checksum(_ bytes: Span<UInt8>, after checksum: UInt32 = 0) -> UInt32 {
    unsafe bytes.withUnsafeBufferPointer { bytes in
      var value = uLong(checksum)
      for start in stride(from: 0, to: bytes.count, by: chunk) {
        value = unsafe crc32(value, bytes.baseAddress! + start, UInt32(min(chunk, bytes.count - start)))
      }
      return UInt32(truncatingIfNeeded: value)
    }
  }

  /// Unpacks raw deflate data that are to give `count` bytes; nil where they are not valid, do not end with the last byte of
  /// `packed`, or give another number.
  package static func inflated(_ packed: RawSpan, count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    let isWhole = unsafe packed.withUnsafeBytes { input in
      unsafe bytes.withUnsafeMutableBufferPointer { output in unsafe inflate(input, into: output) }
    }
    return isWhole ? bytes : nil
  }

  private static func inflate(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableBufferPointer<UInt8>) -> Bool {
    var stream = unsafe z_stream()
    let version = ZLIB_VERSION
    guard unsafe inflateInit2_(&stream, -15, version, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { return false }
    defer { unsafe inflateEnd(&stream) }
    var nothing: UInt8 = 0
    return unsafe withUnsafeMutablePointer(to: &nothing) { nothing in
      let bytes = unsafe input.assumingMemoryBound(to: UInt8.self)
      var (read, written) = (0, 0)
      while true {
        let (given, room) = (min(chunk, bytes.count - read), min(chunk, output.count - written))
        unsafe stream.next_in = bytes.baseAddress.map { unsafe UnsafeMutablePointer(mutating: $0 + read) } ?? nothing
        unsafe stream.next_out = output.baseAddress.map { unsafe $0 + written } ?? nothing
        unsafe (stream.avail_in, stream.avail_out) = (UInt32(given), UInt32(room))
        let status = unsafe CZlib.inflate(&stream, Z_NO_FLUSH)
        let progress = unsafe (given - Int(stream.avail_in), room - Int(stream.avail_out))
        read += progress.0
        written += progress.1
        if status == Z_STREAM_END { return read == bytes.count && written == output.count }
        guard status == Z_OK, progress != (0, 0) else { return false }
      }
    }
  }
}
