import DiTTensor

/// A safetensors file, open to read: named tensors, mapped and not copied until asked for.
///
/// Opening reads and checks the header alone (see ``SafetensorsHeader``), so it takes no longer for a large model than
/// for a small one. The object is immutable; any number of threads may read from it. About files that change while they
/// are mapped see ``MappedFile``.
public final class SafetensorsFile: Sendable {
  /// The path as given.
  public let path: String
  /// What the file holds.
  public let header: SafetensorsHeader
  private let bytes: FileBytes

  /// Opens the file at `path`.
  ///
  /// - Throws: `DiTError` when the file cannot be mapped or is not a well-formed safetensors file.
  public convenience init(contentsOf path: String) throws {
    try self.init(.mapped(MappedFile(path: path)), path: path)
  }

  /// Reads `bytes` as if they were a file; errors name it `path`.
  public convenience init(bytes: [UInt8], path: String) throws(DiTError) {
    try self.init(.memory(bytes), path: path)
  }

  init(_ bytes: FileBytes, path: String) throws(DiTError) {
    self.path = path
    self.bytes = bytes
    header = try bytes.withBytes(0..<bytes.count) { start throws(DiTError) in
      try SafetensorsHeader(parsing: start, fileSize: bytes.count, path: path)
    }
  }

  /// The pairs under `__metadata__`.
  public var metadata: [String: String] { header.metadata }

  /// The tensors' names in the order of their data.
  public var names: [String] { header.entries.map(\.name) }

  /// The tensor's dtype, shape and place; nil when the file has none of that name.
  public func entry(named name: String) -> SafetensorsHeader.Entry? { header.entry(named: name) }

  /// The tensor's dtype, shape and place.
  ///
  /// - Throws: `DiTError` when the file has none of that name.
  public func requireEntry(named name: String) throws(DiTError) -> SafetensorsHeader.Entry {
    guard let entry = entry(named: name) else { throw failure(name, .noSuchTensor) }
    return entry
  }

  // MARK: Real numbers

  /// The tensor `name`, of dtype F32, F16, BF16 or F64. Widening is exact, F64 rounds to the nearest Float.
  ///
  /// - Throws: `DiTError` when there is no such tensor or it has another dtype.
  public func tensor(_ name: String) throws(DiTError) -> Tensor {
    let entry = try readable(name, allowingIntegers: false)
    return Tensor(shape: entry.shape, elements: floats(entry))
  }

  /// The tensor `name`, of dtype F32, F16, BF16, F64, I64, I32 or U8, as real numbers. Whole numbers beyond 2²⁴ round to
  /// the nearest Float.
  ///
  /// - Throws: `DiTError` when there is no such tensor or it has another dtype.
  public func numbers(_ name: String) throws(DiTError) -> Tensor {
    let entry = try readable(name, allowingIntegers: true)
    return Tensor(shape: entry.shape, elements: floats(entry))
  }

  /// Shape and elements of the tensor `name`, of dtype F32, F16, BF16 or F64, in Double: exact.
  ///
  /// - Throws: `DiTError` when there is no such tensor or it has another dtype.
  public func doubles(_ name: String) throws(DiTError) -> (shape: [Int], values: [Double]) {
    let entry = try readable(name, allowingIntegers: false)
    return (entry.shape, entry.dtype == .f64 ? doubles(entry) : floats(entry).map(Double.init))
  }

  /// Reads the tensor `name`, of dtype F32, F16, BF16 or F64, into `target`.
  ///
  /// - Throws: `DiTError` when there is no such tensor, it has another dtype or another number of elements.
  public func copyFloats(_ name: String, into target: inout MutableSpan<Float>) throws(DiTError) {
    let entry = try readable(name, allowingIntegers: false)
    guard entry.count == target.count else {
      throw failure(name, .countMismatch(expected: target.count, found: entry.count))
    }
    read(entry, into: &target)
  }

  /// Reads as many elements of the tensor `name` as `target` takes, from element `start` on, of dtype F32, F16, BF16 or F64.
  ///
  /// - Throws: `DiTError` when there is no such tensor, it has another dtype, or it ends before.
  public func copyFloats(
    _ name: String, from start: Int, into target: inout MutableSpan<Float>
  ) throws(DiTError) {
    _ = try readable(name, allowingIntegers: false)
    try copyNumbers(name, from: start, into: &target)
  }

  /// Reads as many elements of the tensor `name` as `target` takes, from element `start` on. Whole numbers, of dtype
  /// I64, I32 or U8, are read as well.
  ///
  /// - Throws: `DiTError` when there is no such tensor, it has another dtype, or it ends before.
  public func copyNumbers(
    _ name: String, from start: Int, into target: inout MutableSpan<Float>
  ) throws(DiTError) {
    let entry = try readable(name, allowingIntegers: true)
    guard start >= 0, target.count <= entry.count - start else {
      throw failure(name, .countMismatch(expected: start + target.count, found: entry.count))
    }
    let size = entry.dtype.bitWidth / 8
    let first = entry.byteRange.lowerBound + start * size
    bytes.withBytes(first..<first + target.count * size) { bytes in
      Elements.read(bytes, as: entry.dtype, into: &target)
    }
  }

  /// Says that the tensor `name` will not be read soon: the memory of its mapped pages is given back until then.
  public func releasePages(of name: String) {
    guard case .mapped(let file) = bytes, let entry = entry(named: name) else { return }
    file.releasePages(entry.byteRange)
  }

  /// The elements of the tensor `name`, of dtype F32, F16, BF16 or F64: in the mapped file where they lie there as
  /// aligned Floats, which costs neither time nor memory, else read into new memory.
  ///
  /// - Throws: `DiTError` when there is no such tensor or it has another dtype.
  public func slice(_ name: String) throws(DiTError) -> FloatSlice {
    if let mapped = mappedFloats(name), mapped.count > 0 { return mapped.slice }
    let entry = try readable(name, allowingIntegers: false)
    let slice = MutableFloatSlice(zeros: entry.count)
    var target = slice.mutableSpan
    read(entry, into: &target)
    return slice.reading
  }

  /// Where the elements of the tensor `name` lie as Floats that can be used in place; nil when there is no such tensor,
  /// its dtype is not F32, its data are not aligned to 4 bytes, or the file is not mapped.
  public func mappedFloats(_ name: String) -> MappedFloats? {
    guard case .mapped(let file) = bytes, let entry = entry(named: name), entry.dtype == .f32 else { return nil }
    let offset = entry.byteRange.lowerBound
    guard file.isFloatAligned(offset) else { return nil }
    return MappedFloats(file: file, byteOffset: offset, count: entry.count)
  }

  // MARK: Whole numbers

  /// Shape and elements of the tensor `name`, of dtype I64, I32 or U8, or a float dtype that holds whole numbers only.
  ///
  /// - Throws: `DiTError` when there is no such tensor, it has another dtype, or an element is not a whole
  ///   number that fits an `Int`.
  public func integers(_ name: String) throws(DiTError) -> (shape: [Int], values: [Int]) {
    let entry = try readable(name, allowingIntegers: true)
    var values = [Int](repeating: 0, count: entry.count)
    if entry.dtype.isReadableInteger {
      bytes.withBytes(entry.byteRange) { bytes in
        var target = values.mutableSpan
        Elements.read(bytes, as: entry.dtype, into: &target)
      }
    } else if entry.dtype == .f64 {
      try convert(doubles(entry), of: name, into: &values)
    } else {
      try convert(floats(entry), of: name, into: &values)
    }
    return (entry.shape, values)
  }

  private func convert<Number: BinaryFloatingPoint>(
    _ numbers: [Number], of name: String, into values: inout [Int]
  ) throws(DiTError) {
    for (i, number) in numbers.enumerated() {
      guard let value = Int(exactly: number) else { throw failure(name, .notWhole(index: i, found: Double(number))) }
      values[i] = value
    }
  }

  // MARK: Bytes

  /// Calls `body` with the elements of the tensor `name` as they lie in the file.
  ///
  /// - Throws: `DiTError` when there is no such tensor, and what `body` throws.
  public func withBytes<Result>(of name: String, _ body: (RawSpan) throws -> Result) throws -> Result {
    try bytes.withBytes(requireEntry(named: name).byteRange, body)
  }

  // MARK: Reading

  private func readable(
    _ name: String, allowingIntegers: Bool
  ) throws(DiTError) -> SafetensorsHeader.Entry {
    let entry = try requireEntry(named: name)
    let dtype = entry.dtype
    guard dtype.isReadableFloat || allowingIntegers && dtype.isReadableInteger else {
      let expected = "F32, F16, BF16\(allowingIntegers ? ", F64, I64, I32 or U8" : " or F64")"
      throw failure(name, .unreadableDtype(expected: expected, found: dtype))
    }
    return entry
  }

  private func floats(_ entry: SafetensorsHeader.Entry) -> [Float] {
    var elements = [Float](repeating: 0, count: entry.count)
    var target = elements.mutableSpan
    read(entry, into: &target)
    return elements
  }

  private func doubles(_ entry: SafetensorsHeader.Entry) -> [Double] {
    var elements = [Double](repeating: 0, count: entry.count)
    bytes.withBytes(entry.byteRange) { bytes in
      var target = elements.mutableSpan
      Elements.readDoubles(bytes, into: &target)
    }
    return elements
  }

  private func read(_ entry: SafetensorsHeader.Entry, into target: inout MutableSpan<Float>) {
    bytes.withBytes(entry.byteRange) { bytes in Elements.read(bytes, as: entry.dtype, into: &target) }
  }

  private func failure(_ name: String, _ problem: SafetensorsProblem) -> DiTError {
    DiTError(file: path, tensor: name, problem: problem)
  }
}

extension SafetensorsFile: TensorStore {
  /// The elements of the tensor `name`, of dtype F32, F16, BF16 or F64: where they lie in the mapped file as aligned Floats, else
  /// to be made when they are asked for.
  ///
  /// - Throws: `DiTError` when there is no such tensor or it has another dtype.
  public func parts(_ name: String) throws -> TensorParts {
    if let mapped = mappedFloats(name) { return TensorParts(mapped.slice) }
    let entry = try readable(name, allowingIntegers: false)
    let search: TensorParts.Finder = { [self] in firstNotFiniteHalf(entry) }
    let find = entry.dtype == .bf16 ? search : nil
    @Sendable func values() -> FloatSlice {
      let slice = MutableFloatSlice(uninitialized: entry.count)
      var target = slice.mutableSpan
      read(entry, into: &target)
      return slice.reading
    }
    return TensorParts(
      count: entry.count, halves: halves(entry), release: { [self] in releasePages(of: name) }, firstNotFinite: find,
      make: { values() })
  }

  /// The first NaN or infinity of a tensor of BF16: all bits of the exponent are set.
  private func firstNotFiniteHalf(_ entry: SafetensorsHeader.Entry) -> (index: Int, value: Float)? {
    bytes.withBytes(entry.byteRange) { bytes in
      func bits(_ i: Int) -> UInt16 {
        unsafe bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: 2 * i, as: UInt16.self)
      }
      let block = 4096
      for start in stride(from: 0, to: entry.count, by: block) {
        let range = start..<min(start + block, entry.count)
        var greatest: UInt16 = 0  // without a branch, so that the loop vectorizes
        for i in range { greatest = max(greatest, bits(i) & 0x7FFF) }
        guard greatest >= 0x7F80 else { continue }
        let place = range.first { bits($0) & 0x7FFF >= 0x7F80 }!
        return (place, Float(bitPattern: UInt32(bits(place)) << 16))
      }
      return nil
    }
  }

  /// BF16 of a mapped file where it lies as aligned pairs.
  private func halves(_ entry: SafetensorsHeader.Entry) -> FloatSlice? {
    guard case .mapped(let file) = bytes, entry.dtype == .bf16, entry.count > 0, entry.count % 2 == 0,
      file.isFloatAligned(entry.byteRange.lowerBound)
    else { return nil }
    return MappedFloats(file: file, byteOffset: entry.byteRange.lowerBound, count: entry.count / 2).slice
  }

  public var keys: [StateDict.Key] { header.entries.map { (name: $0.name, shape: $0.shape) } }

  public func shape(of name: String) -> [Int]? { entry(named: name)?.shape }
}
