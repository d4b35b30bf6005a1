import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Names and paths of files as strings, whatever bytes they hold.
///
/// A file system takes any bytes but `/` and NUL for a name, a string only Unicode. Bytes that are no UTF-8, as those of an
/// old Latin-1 name, are kept in a string as scalars of a range for private use, one each (U+10F780 … U+10F7FF for the bytes
/// 80 … FF); a scalar of that range that a name really holds is kept as its four bytes. So every name has one string, every
/// string of a name leads back to its bytes, and a name in UTF-8 is its own string.
///
/// All paths of this package are such strings. Programs make them from names in other encodings by ``string(of:)``.
public enum FileName {
  /// The string that stands for a name or path of these bytes.
  public static func string(of bytes: some Sequence<UInt8>) -> String {
    let bytes = Array(bytes)
    if let string = String(validating: bytes, as: UTF8.self), !string.unicodeScalars.contains(where: Message.isByte) {
      return string
    }
    var string = String.UnicodeScalarView()
    var place = 0
    while place < bytes.count {
      let length = (1...4).first { count in
        place + count <= bytes.count && String(validating: bytes[place..<place + count], as: UTF8.self) != nil
      }
      let scalar = length.flatMap { String(decoding: bytes[place..<place + $0], as: UTF8.self).unicodeScalars.first }
      if let length, let scalar, !Message.isByte(scalar) {
        string.append(scalar)
        place += length
      } else {
        for byte in bytes[place..<place + (length ?? 1)] { string.append(Message.scalar(ofByte: byte)) }
        place += length ?? 1
      }
    }
    return String(string)
  }

  /// The string that stands for the bytes up to the first NUL.
  @unsafe package static func string(terminated start: UnsafePointer<CChar>) -> String {
    unsafe string(of: UnsafeBufferPointer(start: start, count: strlen(start)).map(UInt8.init(bitPattern:)))
  }

  /// The bytes of a name or path.
  public static func bytes(of string: String) -> [UInt8] {
    guard string.utf8.contains(0xF4) else { return Array(string.utf8) }  // the first byte of the range's scalars
    return string.unicodeScalars.flatMap { scalar in Message.byte(of: scalar).map { [$0] } ?? Array(scalar.utf8) }
  }

  /// The bytes of a path, and the NUL that the system wants behind them.
  package static func terminated(_ path: String) -> [CChar] { bytes(of: path).map(CChar.init(bitPattern:)) + [0] }

  /// A name as text of plain Unicode, such as the name of a class: bytes that are no UTF-8 as `\xe9`. Where that could be
  /// taken for a name that is spelled so, backslashes are doubled; different names stay different.
  public static func text(_ name: String) -> String {
    guard name.unicodeScalars.contains(where: Message.isByte) || holdsEscape(name) else { return name }
    return name.unicodeScalars.map { scalar in scalar == "\\" ? "\\\\" : Message.shown(scalar) }.joined()
  }

  /// Whether a name holds what ``text(_:)`` writes for a byte.
  private static func holdsEscape(_ name: String) -> Bool {
    let bytes = Array(name.utf8)
    return bytes.indices.dropLast().contains { bytes[$0] == UInt8(ascii: "\\") && bytes[$0 + 1] == UInt8(ascii: "x") }
  }

  /// Text for people in which names may stand: bytes that are no UTF-8 become `\xe9`, so that any terminal or file takes it.
  public static func shown(_ text: String) -> String {
    guard text.utf8.contains(0xF4), text.unicodeScalars.contains(where: Message.isByte) else { return text }
    return text.unicodeScalars.map(Message.shown).joined()
  }

  /// A name in ASCII, other scalars as `\u{e9}`: two that look alike differ.
  public static func spelled(_ name: String) -> String {
    name.unicodeScalars.map { scalar in
      scalar.isASCII || Message.isByte(scalar) ? Message.shown(scalar) : "\\u{\(String(scalar.value, radix: 16))}"
    }.joined()
  }

  /// Byte order of names, whatever the locale and the normal form.
  package static func isBefore(_ a: String, _ b: String) -> Bool {
    bytes(of: a).lexicographicallyPrecedes(bytes(of: b))
  }
}
