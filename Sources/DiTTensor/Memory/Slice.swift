/// A window of a ``Buffer``: `count` elements from `offset`. Copying a slice copies the reference, not the elements.
public struct Slice: Sendable {
  /// The memory, kept alive by the slice.
  public let buffer: Buffer
  /// The first element's index in the buffer.
  public let offset: Int
  /// The number of elements.
  public let count: Int

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

  /// The elements at `range`, counted from this slice's first.
  public subscript(range: Range<Int>) -> Slice {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "elements \(range) of a slice of \(count)")
    return Slice(buffer, offset: offset + range.lowerBound, count: range.count)
  }

  /// One element.
  public subscript(index: Int) -> Float {
    get { span[index] }
    nonmutating set {
      var elements = mutableSpan
      elements[index] = newValue
    }
  }

  /// The elements, to read.
  public var span: Span<Float> {
    @_lifetime(borrow self)
    get {
      let elements = unsafe Span(_unsafeStart: UnsafePointer(buffer.base + offset), count: count)
      return unsafe _overrideLifetime(elements, borrowing: self)
    }
  }

  /// The elements, to write. The buffer must be one that owns its memory.
  public var mutableSpan: MutableSpan<Float> {
    @_lifetime(borrow self)
    get {
      precondition(buffer.isMutable, "the elements of a mapped file cannot be written")
      let elements = unsafe MutableSpan(_unsafeStart: buffer.base + offset, count: count)
      return unsafe _overrideLifetime(elements, borrowing: self)
    }
  }

  /// The elements' bytes, to read: where they hold another format, such as bf16.
  public var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let bytes = unsafe RawSpan(
        _unsafeStart: UnsafeRawPointer(buffer.base + offset), byteCount: count * MemoryLayout<Float>.stride)
      return unsafe _overrideLifetime(bytes, borrowing: self)
    }
  }

  /// The elements' bytes, to write. The buffer must be one that owns its memory.
  public var mutableBytes: MutableRawSpan {
    @_lifetime(borrow self)
    get {
      precondition(buffer.isMutable, "the elements of a mapped file cannot be written")
      let bytes = unsafe MutableRawSpan(
        _unsafeStart: UnsafeMutableRawPointer(buffer.base + offset), byteCount: count * MemoryLayout<Float>.stride)
      return unsafe _overrideLifetime(bytes, borrowing: self)
    }
  }

  /// Says that the elements will not be read soon. Where they are a view of a file, their memory is given back until then.
  public func releasePages() { buffer.releasePages(offset..<offset + count) }

  /// Copies `source`, of the same count, into this slice.
  public func copy(from source: Span<Float>) {
    precondition(source.count == count, "\(source.count) elements copied into a slice of \(count)")
    var target = mutableSpan
    unsafe target.withUnsafeMutableBufferPointer { target in
      unsafe source.withUnsafeBufferPointer { source in
        guard let to = target.baseAddress, let from = source.baseAddress else { return }
        unsafe to.update(from: from, count: source.count)
      }
    }
  }

  /// Sets every element to `value`.
  public func fill(_ value: Float) {
    var target = mutableSpan
    unsafe target.withUnsafeMutableBufferPointer { unsafe $0.update(repeating: value) }
  }

  /// A copy of the elements.
  public var array: [Float] {
    unsafe span.withUnsafeBufferPointer { unsafe Array($0) }
  }
}
