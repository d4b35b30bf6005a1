import CZlib
import DiTTensor

/// The bytes of a gzip file, unpacked from the beginning on, a part at a time. zlib checks their CRC-32 and length.
@safe package final class GzipReader {
  private let file: MappedFile
  /// zlib's state knows where it lies.
  private let stream: UnsafeMutablePointer<z_stream>
  /// The first byte that zlib has not taken.
  private var position = 0
  private var isAtEnd = false

  /// Whether `bytes` begin as gzip's do.
  package static func isGzip(_ bytes: [UInt8]) -> Bool { bytes.starts(with: [0x1F, 0x8B]) }

  /// What a part of so many bytes can be unpacked to at most, deflate's best ratio.
  package static func most(from packed: Int) -> Int { packed.multipliedReportingOverflow(by: 1032).partialValue }

  package init(_ file: MappedFile) throws(DiTError) {
    self.file = file
    unsafe stream = .allocate(capacity: 1)
    unsafe stream.initialize(to: z_stream())
    let gzip = 16 + MAX_WBITS
    guard unsafe inflateInit2_(stream, gzip, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      unsafe stream.deallocate()
      throw DiTError(file: file.path, .entry("gzip data"), expected: "memory to unpack them", found: "none")
    }
  }

  deinit {
    unsafe inflateEnd(stream)
    unsafe stream.deallocate()
  }

  /// The next `count` bytes; fewer only where they end.
  ///
  /// - Throws: `DiTError` where they are damaged or cut off.
  package func read(_ count: Int) throws(DiTError) -> [UInt8] {
    // Memory comes as bytes do: a file says of itself how many there will be.
    var bytes = [UInt8](repeating: 0, count: min(count, 1 << 24))
    var written = 0
    while written < count, !isAtEnd {
      if written == bytes.count { bytes += [UInt8](repeating: 0, count: min(count - written, bytes.count)) }
      let (from, to) = (position, written)
      let input = min(file.count - from, 1 << 20)
      let room = min(bytes.count - to, 1 << 30)
      let (status, taken, made) = file.withBytes(from..<from + input) { packed in
        unsafe packed.withUnsafeBytes { packed in
          unsafe bytes.withUnsafeMutableBufferPointer { output in
            unsafe stream.pointee.next_in = UnsafeMutablePointer(
              mutating: packed.assumingMemoryBound(to: UInt8.self).baseAddress)
            unsafe stream.pointee.avail_in = UInt32(input)
            unsafe stream.pointee.next_out = output.baseAddress! + to
            unsafe stream.pointee.avail_out = UInt32(room)
            let status = unsafe inflate(stream, Z_NO_FLUSH)
            return unsafe (status, input - Int(stream.pointee.avail_in), room - Int(stream.pointee.avail_out))
          }
        }
      }
      position += taken
      written += made
      if status == Z_STREAM_END {
        // Members may follow one another; bytes that are none are padding.
        let next = file.withBytes(position..<min(position + 2, file.count)) { bytes in
          (0..<bytes.byteCount).map { unsafe bytes.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
        }
        let isReset = unsafe inflateReset(stream) == Z_OK
        isAtEnd = !Self.isGzip(next) || !isReset
      } else if status != Z_OK || (taken, made) == (0, 0) {
        throw DiTError(
          file: file.path, .entry("gzip data"), expected: "whole data",
          found: position == file.count ? "an end after \(written) bytes" : "damage at byte \(position)")
      }
    }
    bytes.removeLast(bytes.count - written)
    return bytes
  }
}
