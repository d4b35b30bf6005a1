// TensorFlow's record format: for each record
//
//   length   8 bytes, little-endian
//   crc      4 bytes, masked CRC-32C of the length's bytes
//   data     `length` bytes
//   crc      4 bytes, masked CRC-32C of the data
//
// A reader stops at a record that is cut off, so a file may be read while it grows.

/// CRC-32C (Castagnoli), reflected, as iSCSI and TensorFlow have it.
package enum CRC32C {
  private static let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
  }

  package static func value(_ bytes: some Sequence<UInt8>) -> UInt32 {
    ~bytes.reduce(~UInt32(0)) { crc, byte in crc >> 8 ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] }
  }

  /// The masked checksum that records store: rotated right by 15 plus a constant, as bytes that contain their own CRC have
  /// a constant CRC.
  package static func masked(_ bytes: some Sequence<UInt8>) -> UInt32 {
    let crc = value(bytes)
    return (crc >> 15 | crc << 17) &+ 0xA282_EAD8
  }
}

enum Record {
  /// The bytes of a record.
  static func framed(_ data: [UInt8]) -> [UInt8] {
    let length = littleEndian(UInt64(data.count))
    return length + littleEndian(CRC32C.masked(length)) + data + littleEndian(CRC32C.masked(data))
  }

  private static func littleEndian(_ value: some FixedWidthInteger & UnsignedInteger) -> [UInt8] {
    (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
  }
}
