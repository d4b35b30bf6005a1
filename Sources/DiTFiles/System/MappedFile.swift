import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file mapped into memory, to read. Pages come from the page cache when they are touched and are shared with every
/// other process that maps the file; nothing is copied.
///
/// The mapping lasts as long as the object. The file must keep its size for that time: a page that another process cuts
/// off raises SIGBUS when touched, and bytes that it rewrites in place change under the reader. Files replaced by a
/// rename, as ``AtomicFile`` does, are safe: the mapping keeps the old file.
@safe public final class MappedFile: @unchecked Sendable {
  /// The path as given.
  public let path: String
  /// The number of bytes; at least 1.
  public let count: Int
  private let base: UnsafeRawPointer

  /// Maps the file at `path`.
  ///
  /// - Throws: `DiTError` when there is no file, it is not a regular one, it is empty, or the system refuses.
  public init(path: String) throws(DiTError) {
    let file = try RegularFile(path: path)
    guard file.size > 0 else { throw DiTError(file: path, .empty) }
    let mapping = unsafe mmap(nil, file.size, PROT_READ, MAP_PRIVATE, file.descriptor.number, 0)
    guard let mapping = unsafe mapping, unsafe mapping != MAP_FAILED else {
      throw DiTError(file: path, refused: "map")
    }
    self.path = path
    count = file.size
    unsafe base = UnsafeRawPointer(mapping)
  }

  deinit {
    unsafe munmap(UnsafeMutableRawPointer(mutating: base), count)
  }

  /// Calls `body` with the bytes at `range`, counted from the start of the file.
  ///
  /// - Precondition: `range` lies in the file.
  public func withBytes<Result, Failure: Error>(
    _ range: Range<Int>, _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "bytes \(range) of a file of \(count)")
    return try unsafe body(RawSpan(_unsafeStart: base + range.lowerBound, byteCount: range.count))
  }

  /// Lets the system take back the memory of whole pages in `range`; a later read maps the file again.
  public func releasePages(_ range: Range<Int>) {
    #if os(Linux)
      let page = Int(sysconf(Int32(_SC_PAGESIZE)))
      let first = (range.lowerBound + page - 1) / page * page
      let end = range.upperBound / page * page
      guard end > first else { return }
      unsafe madvise(UnsafeMutableRawPointer(mutating: base + first), end - first, MADV_DONTNEED)
    #endif
  }

  /// Whether the byte at `offset` may be the first of a Float.
  func isFloatAligned(_ offset: Int) -> Bool {
    unsafe Int(bitPattern: base + offset) % MemoryLayout<Float>.alignment == 0
  }

  /// The `count` floats from the aligned byte `offset`, valid as long as this object.
  @unsafe func floats(at offset: Int, count: Int) -> UnsafeBufferPointer<Float> {
    let bytes = count * MemoryLayout<Float>.size
    precondition(isFloatAligned(offset) && offset >= 0 && offset + bytes <= self.count)
    let start = unsafe (base + offset).bindMemory(to: Float.self, capacity: count)
    return unsafe UnsafeBufferPointer(start: start, count: count)
  }
}

/// Floats that lie ready for use in a mapped file.
public struct MappedFloats: Sendable {
  /// The mapping, which must live as long as the floats are used.
  public let file: MappedFile
  /// The first float's place, counted from the start of the file; a multiple of 4.
  public let byteOffset: Int
  /// The number of floats.
  public let count: Int

  /// The floats as read-only elements of the engine; keeps the mapping alive.
  public var slice: FloatSlice {
    guard count > 0 else { return .empty }
    return FloatSlice(
      unsafe Buffer(viewing: file.floats(at: byteOffset, count: count), owner: file, isMappedFile: true))
  }
}

/// The bytes of a file, mapped or in memory.
package enum FileBytes: Sendable {
  case mapped(MappedFile)
  case memory([UInt8])

  /// The number of bytes.
  package var count: Int {
    switch self {
    case .mapped(let file): file.count
    case .memory(let bytes): bytes.count
    }
  }

  /// Calls `body` with the bytes at `range`, which lies in the file.
  package func withBytes<Result, Failure: Error>(
    _ range: Range<Int>, _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    switch self {
    case .mapped(let file): try file.withBytes(range, body)
    case .memory(let bytes): try body(unsafe bytes.span.bytes.extracting(range))
    }
  }

  /// See ``MappedFile/releasePages(_:)``.
  package func releasePages(_ range: Range<Int>) {
    if case .mapped(let file) = self { file.releasePages(range) }
  }
}
