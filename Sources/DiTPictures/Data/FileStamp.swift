// The target's only raw memory and system calls.

import DiTFiles
import DiTTensor
import DiTTraining

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Whether a file is still the one that was listed: its size and the time of its last change. For this process only, never
/// stored, as copies of a folder have other times.
struct FileStamp: Equatable, Sendable {
  let size: Int
  let seconds, nanoseconds: Int

  /// Nil where there is no such file.
  init?(_ path: String) {
    var status = stat()
    guard unsafe stat(FileName.terminated(path), &status) == 0 else { return nil }
    size = Int(status.st_size)
    #if canImport(Darwin)
      (seconds, nanoseconds) = (Int(status.st_mtimespec.tv_sec), Int(status.st_mtimespec.tv_nsec))
    #else
      (seconds, nanoseconds) = (Int(status.st_mtim.tv_sec), Int(status.st_mtim.tv_nsec))
    #endif
  }

  static func isFolder(_ path: String) -> Bool {
    do throws(DiTError) { return try FileStatus(path: path)?.isDirectory == true } catch { return false }
  }
}

/// The first and last 4 KiB of a file, or of a part of one; all of a smaller one.
struct FileHeadAndTail {
  static let length = 4096

  let head, tail: [UInt8]
  private let size: Int

  /// Nil where the file cannot be read, or is not a file.
  ///
  /// - Parameter range: the part's bytes.
  init?(_ path: String, _ range: Range<Int>) {
    // A pipe that is opened waits for its writer.
    let file = unsafe open(FileName.terminated(path), O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else { return nil }
    defer { _ = close(file) }
    let length = min(Self.length, range.count)
    let head = RegularFile.bytes(of: file, range.lowerBound..<range.lowerBound + length)
    let tail = RegularFile.bytes(of: file, range.upperBound - length..<range.upperBound)
    guard head.count == length, tail.count == length else { return nil }
    (self.head, self.tail, size) = (head, tail, range.count)
  }

  /// Adds head and tail to a digest. A compressed picture that was changed has another size or, as a PNG ends with a
  /// checksum of its pixels, another tail: nearly always, at the cost of two small reads.
  func add(to digest: inout Digest) {
    for byte in head { digest.add(UInt64(byte)) }
    for byte in tail { digest.add(UInt64(byte)) }
  }

  /// Whether the file ends as a PNG or JPEG does, or is as long as a WebP says; one that was cut off is not.
  var isWhole: Bool {
    if head.starts(with: "RIFF".utf8), head.count >= 12 {
      return head[4..<8].reversed().reduce(0) { $0 << 8 | Int($1) } + 8 <= size
    }
    let end: [UInt8] = [0, 0, 0, 0, 0x49, 0x45, 0x4E, 0x44, 0xAE, 0x42, 0x60, 0x82]  // IEND
    return head.first == 0xFF ? tail.suffix(2) == [0xFF, 0xD9] : tail.suffix(end.count).elementsEqual(end)
  }
}
