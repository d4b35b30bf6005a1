/// An element type of a safetensors file. The raw value is the name in the header.
///
/// The cases stand in the format's own order, by size: writers put the tensors of a later case first.
public enum Dtype: String, CaseIterable, Sendable {
  case bool = "BOOL"
  case f4 = "F4"
  case f6E2M3 = "F6_E2M3"
  case f6E3M2 = "F6_E3M2"
  case u8 = "U8"
  case i8 = "I8"
  case f8E5M2 = "F8_E5M2"
  case f8E4M3 = "F8_E4M3"
  case f8E8M0 = "F8_E8M0"
  case f8E4M3FNUZ = "F8_E4M3FNUZ"
  case f8E5M2FNUZ = "F8_E5M2FNUZ"
  case i16 = "I16"
  case u16 = "U16"
  case f16 = "F16"
  case bf16 = "BF16"
  case i32 = "I32"
  case u32 = "U32"
  case f32 = "F32"
  case c64 = "C64"
  case f64 = "F64"
  case i64 = "I64"
  case u64 = "U64"

  /// The bits of one element. Three types are smaller than a byte and lie packed.
  public var bitWidth: Int {
    switch self {
    case .f4: 4
    case .f6E2M3, .f6E3M2: 6
    case .bool, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ: 8
    case .i16, .u16, .f16, .bf16: 16
    case .i32, .u32, .f32: 32
    case .c64, .f64, .i64, .u64: 64
    }
  }

  /// Whether this package reads elements of this type as real numbers: F32, F16, BF16, F64.
  public var isReadableFloat: Bool {
    switch self {
    case .f32, .f16, .bf16, .f64: true
    default: false
    }
  }

  /// Whether this package reads elements of this type as whole numbers: I64, I32, U8.
  public var isReadableInteger: Bool {
    switch self {
    case .i64, .i32, .u8: true
    default: false
    }
  }

  /// The place in the order in which writers sort tensors, later first.
  var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}
