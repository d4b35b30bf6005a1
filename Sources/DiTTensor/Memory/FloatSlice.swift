/// A window of a ``Buffer``, to read: `count` elements from `offset`. Copying a slice copies the reference, not the elements.
public struct FloatSlice: Sendable {
  /// The memory, kept alive by the slice.
  public let buffer: Buffer
  /// The first element's index in the buffer.
  public let offset: Int
  /// The number of elements.
  public let count: Int

  /// No elements.
  public static let empty = FloatSlice(Buffer(count: 0))

  /// The elements `offset ..< offset + count` of `buffer`.
  public init(_ buffer: Buffer, offset: Int, count: Int) {
    precondition(
      offset >= 0 && count >= 0 && count <= buffer.count && offset <= buffer.count - count,
      "elements \(offset) ..< \(offset)+\(count) of a buffer of \(buffer.count)")
    self.buffer = buffer
    self.offset = offset
    self.count = count
  }

  /// All of `buffer`.
  public init(_ buffer: Buffer) {
    self.init(buffer, offset: 0, count: buffer.count)
  }

  /// A new buffer holding `elements`.
  public init(_ elements: [Float]) {
    self = MutableFloatSlice(elements).reading
  }

  public var isEmpty: Bool { count == 0 }

  /// The elements at `range`, counted from this slice's first.
  public subscript(range: Range<Int>) -> FloatSlice {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "elements \(range) of a slice of \(count)")
    return FloatSlice(buffer, offset: offset + range.lowerBound, count: range.count)
  }

  /// One element.
  public subscript(index: Int) -> Float { span[index] }

  /// The elements.
  public var span: Span<Float> {
    @_lifetime(borrow self)
    get {
      let elements = unsafe Span(_unsafeStart: pointer, count: count)
      return unsafe _overrideLifetime(elements, borrowing: self)
    }
  }

  /// Whether some element of `other` is one of these.
  package func overlaps(_ other: FloatSlice) -> Bool {
    buffer === other.buffer && offset < other.offset + other.count && other.offset < offset + count
  }

  /// A copy of the elements.
  public var array: [Float] {
    unsafe span.withUnsafeBufferPointer { unsafe Array($0) }
  }

  /// Says that the elements will not be read soon. Where they are a view of a file, their memory is given back until then.
  public func releasePages() { buffer.releasePages(offset..<offset + count) }

  /// The first element, for a kernel that the slice is an argument of: valid while the slice lives.
  @unsafe package var pointer: UnsafePointer<Float> { unsafe UnsafePointer(buffer.base + offset) }
}

/// A window of a ``Buffer``, to write and to read. Not `Sendable`: whoever has one may write what another thread reads.
///
/// A copy is another name of the same elements, and ``reading`` is a third: kernels say of each of their operands whether
/// it may be the memory of another.
public struct MutableFloatSlice {
  /// The same elements, to read; also while they are written through this slice, which is for its holder to order.
  public let reading: FloatSlice

  /// The elements `offset ..< offset + count` of `buffer`.
  ///
  /// - Precondition: the buffer owns its memory: a mapped file's cannot be written.
  public init(_ buffer: Buffer, offset: Int, count: Int) {
    precondition(buffer.isMutable, "the elements of a mapped file cannot be written")
    reading = FloatSlice(buffer, offset: offset, count: count)
  }

  /// All of `buffer`.
  public init(_ buffer: Buffer) {
    self.init(buffer, offset: 0, count: buffer.count)
  }

  /// A new buffer of `count` zeros.
  public init(zeros count: Int) {
    self.init(Buffer(count: count))
  }

  /// A new buffer of `count` elements that are not to be read before they are written: see ``Buffer/init(count:isZeroed:)``.
  public init(uninitialized count: Int) {
    self.init(Buffer(count: count, isZeroed: false))
  }

  /// A new buffer holding `elements`.
  public init(_ elements: [Float]) {
    self.init(zeros: elements.count)
    copy(from: elements.span)
  }

  /// No elements.
  public static var empty: MutableFloatSlice { MutableFloatSlice(FloatSlice.empty.buffer) }

  /// The memory.
  public var buffer: Buffer { reading.buffer }
  /// The number of elements.
  public var count: Int { reading.count }
  public var isEmpty: Bool { count == 0 }

  /// The elements at `range`, counted from this slice's first.
  public subscript(range: Range<Int>) -> MutableFloatSlice {
    let part = reading[range]
    return MutableFloatSlice(part.buffer, offset: part.offset, count: part.count)
  }

  /// One element.
  public subscript(index: Int) -> Float {
    get { reading[index] }
    nonmutating set {
      var elements = mutableSpan
      elements[index] = newValue
    }
  }

  /// The elements, to read.
  public var span: Span<Float> {
    @_lifetime(borrow self)
    get { reading.span }
  }

  /// The elements, to write.
  public var mutableSpan: MutableSpan<Float> {
    @_lifetime(borrow self)
    get {
      let elements = unsafe MutableSpan(_unsafeStart: pointer, count: count)
      return unsafe _overrideLifetime(elements, borrowing: self)
    }
  }

  /// Copies `source`, of the same count, into this slice.
  public func copy(from source: Span<Float>) {
    precondition(source.count == count, "\(source.count) elements copied into a slice of \(count)")
    unsafe source.withUnsafeBufferPointer { source in
      guard let from = source.baseAddress else { return }
      unsafe pointer.update(from: from, count: source.count)
    }
  }

  /// Copies `source`, of the same count, into this slice.
  public func copy(from source: FloatSlice) { copy(from: source.span) }

  /// Sets every element to `value`.
  public func fill(_ value: Float) { unsafe pointer.update(repeating: value, count: count) }

  /// A copy of the elements.
  public var array: [Float] { reading.array }

  /// The first element, for a kernel that the slice is an argument of: valid while the slice lives.
  @unsafe package var pointer: UnsafeMutablePointer<Float> { unsafe buffer.base + reading.offset }
}

@available(*, unavailable) extension MutableFloatSlice: Sendable {}
