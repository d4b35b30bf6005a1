import DiTFiles
import DiTTensor
import Foundation

/// An array as numpy's .npy format holds it: `|u1`, `<i4`, `<i8`, `<f4` or `<f8` elements of any shape.
///
/// The format: the bytes `\x93NUMPY`, a version (1 to 3), the length of a Python dictionary, the dictionary with `descr`,
/// `fortran_order` and `shape`, the elements. Everything that the header claims is checked against the number of bytes that
/// follow. Structured types, strings, objects (which are pickles), big-endian and other element types are refused.
///
/// Source: numpy's format description, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
public struct NPYArray: Sendable {
  /// The type of the elements; the raw value is numpy's name.
  public enum ElementType: String, CaseIterable, Sendable {
    case uint8 = "|u1"
    case int32 = "<i4"
    case int64 = "<i8"
    case float32 = "<f4"
    case float64 = "<f8"

    /// Bytes of one element.
    public var size: Int {
      switch self {
      case .uint8: 1
      case .int32, .float32: 4
      case .int64, .float64: 8
      }
    }
  }

  public let type: ElementType
  /// The extents; `[]` for a scalar.
  public let shape: [Int]
  /// Whether the first extent runs fastest in memory; the last one otherwise.
  public let isFortranOrder: Bool
  /// The elements, little-endian, in the order that ``isFortranOrder`` says.
  public let bytes: ArraySlice<UInt8>
  /// What errors name.
  private let path: String
  private let part: DiTError.Part?

  /// The number of elements.
  public var count: Int { bytes.count / type.size }

  // MARK: Reading

  /// Reads the .npy file at `path`.
  ///
  /// - Throws: `DiTError` when it cannot be read or is not such a file.
  public init(contentsOf path: String) throws {
    let file = try MappedFile(path: path)
    try self.init(parsing: file.withBytes(0..<file.count) { $0.array }, path: path)
  }

  /// Reads `bytes` as if they were a .npy file; errors name it `path`.
  ///
  /// - Parameters:
  ///   - bytes: the whole file.
  ///   - path: what errors call it.
  ///   - part: what errors call the array, as in `.entry("entry mu.npy")`.
  /// - Throws: `DiTError`.
  public init(parsing bytes: [UInt8], path: String, part: DiTError.Part? = nil) throws(DiTError) {
    let header = try unsafe NPYHeader(of: bytes.span.bytes, size: bytes.count, path: path, part: part)
    (type, shape, isFortranOrder) = (header.type, header.shape, header.isFortranOrder)
    (self.bytes, self.path, self.part) = (bytes[header.size...], path, part)
  }

  static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)

  // MARK: Making

  /// An array `|u1` of `bytes` in row-major order.
  public init(shape: [Int], bytes: [UInt8]) {
    self.init(.uint8, shape, bytes, count: bytes.count)
  }

  /// An array `<i8` of `integers` in row-major order.
  public init(shape: [Int], integers: [Int]) {
    self.init(.int64, shape, Self.littleEndian(integers.lazy.map { Int64($0) }), count: integers.count)
  }

  /// An array `<f4` of `floats` in row-major order.
  public init(shape: [Int], floats: [Float]) {
    self.init(.float32, shape, Self.littleEndian(floats.lazy.map(\.bitPattern)), count: floats.count)
  }

  /// An array `<f8` of `doubles` in row-major order.
  public init(shape: [Int], doubles: [Double]) {
    self.init(.float64, shape, Self.littleEndian(doubles.lazy.map(\.bitPattern)), count: doubles.count)
  }

  private init(_ type: ElementType, _ shape: [Int], _ bytes: [UInt8], count: Int) {
    precondition(shape.reduce(1, *) == count, "\(count) elements do not fill the shape \(shape)")
    (self.type, self.shape, isFortranOrder, self.bytes, path, part) = (type, shape, false, bytes[...], "", nil)
  }

  private static func littleEndian(_ values: some Collection<some FixedWidthInteger>) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(values.underestimatedCount * 8)
    for value in values {
      for shift in stride(from: 0, to: value.bitWidth, by: 8) {
        bytes.append(UInt8(truncatingIfNeeded: value >> shift))
      }
    }
    return bytes
  }

  // MARK: Writing

  /// What stands before the elements in a .npy file of version 1.0, a multiple of 64 bytes.
  var header: [UInt8] {
    let extents = shape.map { "\($0)," }.joined(separator: " ")
    let order = isFortranOrder ? "True" : "False"
    let text = "{'descr': '\(type.rawValue)', 'fortran_order': \(order), 'shape': (\(extents)), }"
    let prefix = Self.magic + [1, 0]
    let padding = 63 - (prefix.count + 2 + text.utf8.count) % 64
    let body = Array(text.utf8) + [UInt8](repeating: 0x20, count: padding) + [0x0A]
    precondition(body.count <= Int(UInt16.max), "an array of \(shape.count) extents")
    return prefix + Self.littleEndian([UInt16(body.count)]) + body
  }

  /// The array as a .npy file holds it.
  public var npyData: [UInt8] { header + bytes }

  /// Writes the array as the .npy file at `path`, atomically.
  ///
  /// - Throws: `DiTError`.
  public func write(to path: String) throws {
    try AtomicFile.write(to: path) { file in
      try file.write(header.span)
      try file.write(bytes.span)
    }
  }

  // MARK: Elements

  /// The elements of an array `<f8` or `<f4`, in the order that ``isFortranOrder`` says.
  ///
  /// - Throws: `DiTError` for another element type.
  public func doubles() throws(DiTError) -> [Double] {
    switch type {
    case .float64: numbers { (bits: UInt64) in Double(bitPattern: bits) }
    case .float32: numbers { (bits: UInt32) in Double(Float(bitPattern: bits)) }
    default: throw unusable("elements of type <f8 or <f4", type.rawValue)
    }
  }

  /// The elements of an array `<i8`, `<i4` or `|u1`, in the order that ``isFortranOrder`` says.
  ///
  /// - Throws: `DiTError` for another element type.
  public func integers() throws(DiTError) -> [Int] {
    switch type {
    case .int64: numbers { (bits: UInt64) in Int(truncatingIfNeeded: bits) }
    case .int32: numbers { (bits: UInt32) in Int(Int32(truncatingIfNeeded: bits)) }
    case .uint8: bytes.map { Int($0) }
    default: throw unusable("elements of type <i8, <i4 or |u1", type.rawValue)
    }
  }

  private func numbers<Bits: FixedWidthInteger, Number>(_ number: (Bits) -> Number) -> [Number] {
    let (source, size) = (bytes.span, MemoryLayout<Bits>.size)
    return (0..<count).map { index in
      var bits: Bits = 0
      for byte in 0..<size { bits |= Bits(truncatingIfNeeded: source[index * size + byte]) << Bits(8 * byte) }
      return number(bits)
    }
  }

  private func unusable(_ expected: String, _ found: String) -> DiTError {
    DiTError(file: path, part, expected: expected, found: found)
  }
}

extension NPYArray: Equatable {
  /// Whether two arrays have the same type, shape, order and bytes, wherever they come from.
  public static func == (a: NPYArray, b: NPYArray) -> Bool {
    a.type == b.type && a.shape == b.shape && a.isFortranOrder == b.isFortranOrder && a.bytes == b.bytes
  }
}
