#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// An owner of `count` consecutive `Float`s: activations, weights, gradients, moments.
///
/// Memory is 64-byte aligned and, unless asked otherwise, zeroed; blocks of 4 MB and more ask the kernel for huge pages, and
/// their zeros take no memory until they are written. A buffer may also view the memory of another owner (a mapped
/// checkpoint): it then keeps that owner alive and is read-only.
///
/// A buffer is shared by reference. It does not arbitrate between threads: whoever hands out slices to several threads
/// makes sure that no thread writes what another reads.
@safe public final class Buffer: @unchecked Sendable {
  let base: UnsafeMutablePointer<Float>
  /// The number of elements.
  public let count: Int
  /// Whether the elements may be written.
  public let isMutable: Bool
  private let owner: AnyObject?
  /// The pages that the block was cut from; nil for a block of the allocator.
  private let mapping: UnsafeMutableRawBufferPointer?
  /// Whether a file holds the elements, so that their pages may be given back.
  private let isMappedFile: Bool

  private static let alignment = 64
  private static let hugePage = 2 << 20
  private static let hugePageThreshold = 4 << 20

  /// Allocates `count` zeros.
  ///
  /// - Parameters:
  ///   - count: of the elements.
  ///   - isZeroed: false leaves whatever the memory holds: for a large block whose first writers are the workers,
  ///     so that the system finds its pages on all processors, and once.
  public init(count: Int, isZeroed: Bool = true) {
    precondition(count >= 0, "a buffer cannot hold \(count) elements")
    let (bytes, overflow) = max(count, 1).multipliedReportingOverflow(by: MemoryLayout<Float>.stride)
    precondition(!overflow, "a buffer of \(count) elements does not fit the address space")
    let isLarge = bytes >= Self.hugePageThreshold
    let raw: UnsafeMutableRawPointer
    if isLarge && isZeroed {
      unsafe (raw, mapping) = Self.untouchedPages(bytes)
    } else {
      unsafe raw = Self.block(bytes, alignment: isLarge ? Self.hugePage : Self.alignment)
      if isZeroed { unsafe memset(raw, 0, bytes) }
      unsafe mapping = nil
    }
    #if os(Linux)
      let hugePages: Int32 = 14  // MADV_HUGEPAGE, a macro Swift does not import everywhere
      if isLarge { _ = unsafe madvise(raw, bytes, hugePages) }
    #endif
    unsafe base = raw.bindMemory(to: Float.self, capacity: max(count, 1))
    self.count = count
    isMutable = true
    owner = nil
    isMappedFile = false
  }

  private static func block(_ bytes: Int, alignment: Int) -> UnsafeMutableRawPointer {
    var raw: UnsafeMutableRawPointer?
    let status = unsafe posix_memalign(&raw, alignment, bytes)
    guard status == 0, let raw = unsafe raw else {
      preconditionFailure("cannot allocate \(bytes) bytes (errno \(status))")
    }
    return unsafe raw
  }

  /// Zeros that the system finds when they are first touched, aligned to a huge page inside the mapping that holds them.
  private static func untouchedPages(
    _ bytes: Int
  ) -> (block: UnsafeMutableRawPointer, mapping: UnsafeMutableRawBufferPointer) {
    let (size, overflow) = bytes.addingReportingOverflow(hugePage)
    precondition(!overflow, "a buffer of \(bytes) bytes does not fit the address space")
    let start = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)
    guard let start = unsafe start, unsafe start != MAP_FAILED else {
      preconditionFailure("cannot allocate \(bytes) bytes (errno \(errno))")
    }
    let gap = (hugePage - Int(bitPattern: start) % hugePage) % hugePage
    return unsafe (start + gap, UnsafeMutableRawBufferPointer(start: start, count: size))
  }

  /// A read-only view of `elements`, which stay valid as long as `owner` lives.
  ///
  /// - Parameters:
  ///   - elements: the memory.
  ///   - owner: kept alive as long as the view.
  ///   - isMappedFile: whether they are a private mapping of a file, unchanged, whose pages can be read again.
  @unsafe public init(viewing elements: UnsafeBufferPointer<Float>, owner: AnyObject, isMappedFile: Bool = false) {
    precondition(elements.count > 0, "a view of nothing")
    unsafe base = UnsafeMutablePointer(mutating: elements.baseAddress!)
    count = elements.count
    isMutable = false
    self.owner = owner
    unsafe mapping = nil
    self.isMappedFile = isMappedFile
  }

  /// Lets the system take back the memory of `range` of a mapped file, which holds the values: a later read maps them
  /// again. Does nothing for any other memory, which would come back as zeros.
  func releasePages(_ range: Range<Int>) {
    #if os(Linux)
      guard isMappedFile, !range.isEmpty else { return }
      let page = UInt(sysconf(Int32(_SC_PAGESIZE)))
      let first = unsafe (UInt(bitPattern: base + range.lowerBound) + page - 1) / page * page
      let end = unsafe UInt(bitPattern: base + range.upperBound) / page * page
      if end > first { unsafe madvise(UnsafeMutableRawPointer(bitPattern: first), Int(end - first), MADV_DONTNEED) }
    #endif
  }

  deinit {
    guard owner == nil else { return }
    if let mapping = unsafe mapping {
      unsafe munmap(mapping.baseAddress, mapping.count)
    } else {
      unsafe free(base)
    }
  }
}
