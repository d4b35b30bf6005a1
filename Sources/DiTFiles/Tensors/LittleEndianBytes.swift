/// Bytes of a file, read as little-endian numbers. Offsets are the caller's to check: beyond the end is a trap.
struct LittleEndianBytes {
  let bytes: [UInt8]

  func uint16(_ offset: Int) -> Int { Int(bytes[offset]) | Int(bytes[offset + 1]) << 8 }

  func uint32(_ offset: Int) -> Int { uint16(offset) | uint16(offset + 2) << 16 }

  /// Nil for what is larger than the largest `Int`.
  func uint64(_ offset: Int) -> Int? {
    Int(exactly: UInt64(uint32(offset)) | UInt64(uint32(offset + 4)) << 32)
  }
}
