/// Elements as files hold them (little-endian, any alignment) against the engine's numbers. The only place that reads
/// and writes them; together with ``MappedFile`` and ``AtomicFile`` the target's door to raw memory.
///
/// Widening to Float is exact: subnormals, infinities and the payload of a NaN survive, and a signaling NaN becomes
/// quiet, except from F32 and BF16, whose bits are copied. F64 and whole numbers round to the nearest Float, ties to
/// even.
enum Elements {
  /// Reads `dtype` (F32, F16, BF16, F64, I64, I32, U8) from `source` into `target`.
  static func read(_ source: RawSpan, as dtype: Dtype, into target: inout MutableSpan<Float>) {
    switch dtype {
    case .f32: read(source, &target) { (bits: UInt32) in Float(bitPattern: bits) }
    case .bf16: read(source, &target) { (bits: UInt16) in Float(bitPattern: UInt32(bits) << 16) }
    case .f16: read(source, &target, float(half:))
    case .f64: read(source, &target) { (bits: UInt64) in Float(Double(bitPattern: bits)) }
    case .i64: read(source, &target) { (value: Int64) in Float(value) }
    case .i32: read(source, &target) { (value: Int32) in Float(value) }
    case .u8: read(source, &target) { (value: UInt8) in Float(value) }
    default: preconditionFailure("\(dtype.rawValue) cannot be read as Float")
    }
  }

  /// Reads whole numbers (I64, I32, U8) from `source` into `target`.
  static func read(_ source: RawSpan, as dtype: Dtype, into target: inout MutableSpan<Int>) {
    switch dtype {
    case .i64: read(source, &target) { (value: Int64) in Int(value) }
    case .i32: read(source, &target) { (value: Int32) in Int(value) }
    case .u8: read(source, &target) { (value: UInt8) in Int(value) }
    default: preconditionFailure("\(dtype.rawValue) cannot be read as Int")
    }
  }

  /// Reads the elements of `run` (F32, F16, BF16, F64, I64, I32, U8) of a storage into their place in `target`.
  static func read(
    _ storage: RawSpan, _ run: StridedLayout.Run, as dtype: Dtype, into target: inout MutableSpan<Float>
  ) {
    switch dtype {
    case .f32: read(storage, run, &target) { (bits: UInt32) in Float(bitPattern: bits) }
    case .bf16: read(storage, run, &target) { (bits: UInt16) in Float(bitPattern: UInt32(bits) << 16) }
    case .f16: read(storage, run, &target, float(half:))
    case .f64: read(storage, run, &target) { (bits: UInt64) in Float(Double(bitPattern: bits)) }
    case .i64: read(storage, run, &target) { (value: Int64) in Float(value) }
    case .i32: read(storage, run, &target) { (value: Int32) in Float(value) }
    case .u8: read(storage, run, &target) { (value: UInt8) in Float(value) }
    default: preconditionFailure("\(dtype.rawValue) cannot be read as Float")
    }
  }

  /// Reads the whole numbers (I64, I32, U8) of `run` of a storage into their place in `target`.
  static func read(
    _ storage: RawSpan, _ run: StridedLayout.Run, as dtype: Dtype, into target: inout MutableSpan<Int>
  ) {
    switch dtype {
    case .i64: read(storage, run, &target) { (value: Int64) in Int(value) }
    case .i32: read(storage, run, &target) { (value: Int32) in Int(value) }
    case .u8: read(storage, run, &target) { (value: UInt8) in Int(value) }
    default: preconditionFailure("\(dtype.rawValue) cannot be read as Int")
    }
  }

  /// Reads F64 from `source` into `target`.
  static func readDoubles(_ source: RawSpan, into target: inout MutableSpan<Double>) {
    read(source, &target) { (bits: UInt64) in Double(bitPattern: bits) }
  }

  /// Writes `source` as `dtype` (F32, F16, BF16) to `target`.
  static func write(_ source: Span<Float>, as dtype: Dtype, into target: inout MutableSpan<UInt8>) {
    switch dtype {
    case .f32: write(source, &target) { $0.bitPattern }
    case .bf16: write(source, &target, bfloat16)
    case .f16: write(source, &target, half)
    default: preconditionFailure("Float cannot be written as \(dtype.rawValue)")
    }
  }

  /// Writes `source` as F64 to `target`.
  static func writeDoubles(_ source: Span<Double>, into target: inout MutableSpan<UInt8>) {
    write(source, &target) { $0.bitPattern }
  }

  /// Writes `source`, whose values fit, as `dtype` (I64, I32, U8, I8) to `target`.
  static func write(_ source: Span<Int>, as dtype: Dtype, into target: inout MutableSpan<UInt8>) {
    switch dtype {
    case .i64: write(source, &target) { Int64($0) }
    case .i32: write(source, &target) { Int32($0) }
    case .u8: write(source, &target) { UInt8($0) }
    case .i8: write(source, &target) { Int8($0) }
    default: preconditionFailure("Int cannot be written as \(dtype.rawValue)")
    }
  }

  // MARK: Half precision

  /// binary16 → binary32. Without branches, so that the loop vectorizes: the exponent is rebased by adding; for a
  /// subnormal the hidden bit that this supplied is subtracted again, which is exact.
  @inline(__always) static func float(half: UInt16) -> Float {
    let magnitude = UInt32(half & 0x7FFF) << 13
    let sign = UInt32(half & 0x8000) << 16
    let exponent = magnitude & 0x0F80_0000
    let normal = magnitude &+ 112 << 23
    let special = (magnitude &+ 224 << 23) | (magnitude & 0x007F_FFFF != 0 ? 0x0040_0000 : 0)
    let subnormal = (Float(bitPattern: magnitude &+ 113 << 23) - Float(bitPattern: 113 << 23)).bitPattern
    let bits = exponent == 0x0F80_0000 ? special : exponent == 0 ? subnormal : normal
    return Float(bitPattern: bits | sign)
  }

  /// binary32 → binary16, to nearest, ties to even; what is too large becomes infinite, a NaN keeps the upper bits of
  /// its payload.
  @inline(__always) static func half(_ value: Float) -> UInt16 {
    let magnitude = value.bitPattern & 0x7FFF_FFFF
    let sign = UInt16(truncatingIfNeeded: value.bitPattern >> 16) & 0x8000
    if magnitude > 0x7F80_0000 { return sign | 0x7E00 | UInt16(truncatingIfNeeded: magnitude >> 13) & 0x03FF }
    if magnitude >= 0x477F_F000 { return sign | 0x7C00 }  // 65520, halfway between the largest half and the next
    if magnitude < 0x3880_0000 {  // 2⁻¹⁴: a unit in the last place of ½ is that of a subnormal half
      let shifted = Float(bitPattern: magnitude) + 0.5
      return sign | UInt16(truncatingIfNeeded: shifted.bitPattern &- Float(0.5).bitPattern)
    }
    let rounded = magnitude &- 112 << 23 &+ 0x0FFF &+ (magnitude >> 13 & 1)
    return sign | UInt16(truncatingIfNeeded: rounded >> 13)
  }

  /// binary32 → bfloat16, to nearest, ties to even; a NaN keeps the upper bits of its payload and is quiet.
  @inline(__always) static func bfloat16(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16
    let quiet = bits >> 16 | 0x0040
    return UInt16(truncatingIfNeeded: bits & 0x7FFF_FFFF > 0x7F80_0000 ? quiet : rounded)
  }

  // MARK: The loops

  @inline(__always)
  private static func read<Bits: FixedWidthInteger & BitwiseCopyable, Number>(
    _ source: RawSpan, _ target: inout MutableSpan<Number>, _ number: (Bits) -> Number
  ) {
    let size = MemoryLayout<Bits>.size
    precondition(source.byteCount == target.count * size, "\(source.byteCount) bytes for \(target.count) numbers")
    unsafe source.withUnsafeBytes { source in
      unsafe target.withUnsafeMutableBufferPointer { target in
        for i in 0..<target.count {
          let bits = unsafe source.loadUnaligned(fromByteOffset: i &* size, as: Bits.self)
          unsafe target[i] = number(Bits(littleEndian: bits))
        }
      }
    }
  }

  @inline(__always)
  private static func read<Bits: FixedWidthInteger & BitwiseCopyable, Number>(
    _ storage: RawSpan, _ run: StridedLayout.Run, _ target: inout MutableSpan<Number>, _ number: (Bits) -> Number
  ) {
    let size = MemoryLayout<Bits>.size
    let (last, overflow) = (run.count - 1).multipliedReportingOverflow(by: run.stride)
    precondition(
      run.count > 0 && run.source >= 0 && run.stride >= 0 && !overflow && run.source < storage.byteCount / size
        && last < storage.byteCount / size - run.source && run.target >= 0
        && run.target <= target.count - run.count, "a run outside its storage or its tensor")
    unsafe storage.withUnsafeBytes { storage in
      unsafe target.withUnsafeMutableBufferPointer { target in
        for i in 0..<run.count {
          let place = (run.source &+ i &* run.stride) &* size
          let bits = unsafe storage.loadUnaligned(fromByteOffset: place, as: Bits.self)
          unsafe target[run.target &+ i] = number(Bits(littleEndian: bits))
        }
      }
    }
  }

  @inline(__always)
  private static func write<Number, Bits: FixedWidthInteger & BitwiseCopyable>(
    _ source: Span<Number>, _ target: inout MutableSpan<UInt8>, _ bits: (Number) -> Bits
  ) {
    let size = MemoryLayout<Bits>.size
    precondition(target.count == source.count * size, "\(target.count) bytes for \(source.count) numbers")
    unsafe source.withUnsafeBufferPointer { source in
      unsafe target.withUnsafeMutableBufferPointer { target in
        let target = UnsafeMutableRawBufferPointer(target)
        for i in 0..<source.count {
          unsafe target.storeBytes(of: bits(source[i]).littleEndian, toByteOffset: i &* size, as: Bits.self)
        }
      }
    }
  }
}

extension RawSpan {
  /// A copy of the bytes.
  package var array: [UInt8] {
    unsafe withUnsafeBytes { unsafe Array($0) }
  }
}
