import DiTFiles
import DiTTensor
import Foundation
import Testing

/// Conversions between Float and the file's formats, over every pattern of the small ones.
@Suite("Conversions between Float and the file's formats") struct ConversionTests {
  static let all = (0...UInt16.max).map(\.self)

  /// What the reader makes of `patterns`.
  func read<Bits: FixedWidthInteger>(_ patterns: [Bits], as dtype: Dtype) throws -> [Float] {
    try SafetensorsFile(bytes: fileBytes(of: dtype, shape: [patterns.count], littleEndian(patterns)), path: "m")
      .tensor("x").elements
  }

  /// The patterns that the writer makes of `values`.
  func write(_ values: [Float], as dtype: Dtype) throws -> [UInt16] {
    let directory = try TemporaryDirectory()
    let path = directory("a.safetensors")
    let tensor = Tensor(shape: [values.count], elements: values)
    try SafetensorsWriter.write([TensorSource("x", tensor, as: dtype)], to: path)
    let start = try #require(try SafetensorsFile(contentsOf: path).entry(named: "x")).byteRange.lowerBound
    let bytes = Array(try Data(contentsOf: URL(filePath: path))[start...])
    return stride(from: 0, to: bytes.count, by: 2).map { UInt16(bytes[$0]) | UInt16(bytes[$0 + 1]) << 8 }
  }

  // MARK: Half

  #if !(os(macOS) && arch(x86_64))
    @Test("Every half of the 65,536 widens to the same Float")
    func halfWidensExactly() throws {
      let found = try read(Self.all, as: .f16)
      let expected = Self.all.map { Float(Float16(bitPattern: $0)) }
      let difference = firstDifference(patterns(found), patterns(expected))
      #expect(difference == nil, "\(difference ?? "")")
    }

    /// Every half, every midpoint of two neighbors and the Floats beside it.
    @Test("Floats round to the nearest half, ties to even, at every midpoint")
    func halfRoundsToNearestEven() throws {
      let finite = Self.all.filter { $0 & 0x7FFF < 0x7C00 }
      let points = finite.flatMap { pattern in
        let low = Float(Float16(bitPattern: pattern))
        // The midpoint with what would be the next half were the exponent unbounded.
        let high =
          pattern & 0x7FFF == 0x7BFF
          ? Float(sign: low.sign, exponent: 16, significand: 1) : Float(Float16(bitPattern: pattern + 1))
        let middle = (low + high) / 2
        return [low, low.nextUp, middle.nextDown, middle, middle.nextUp]
      }
      let values = points + [.infinity, -.infinity, .greatestFiniteMagnitude, .leastNonzeroMagnitude, -0x1p-130]
      let found = try write(values, as: .f16)
      let difference = firstDifference(found, values.map { Float16($0).bitPattern })
      #expect(difference == nil, "\(difference ?? "")")
    }
  #endif

  /// A NaN stays one, with its sign and payload, and becomes quiet.
  @Test("A NaN in half keeps its sign and payload and becomes quiet")
  func halfKeepsNaN() throws {
    let nan = Self.all.filter { $0 & 0x7FFF > 0x7C00 }
    let found = try read(nan, as: .f16).map(\.bitPattern)
    let expected = nan.map { UInt32($0 & 0x8000) << 16 | 0x7FC0_0000 | UInt32($0 & 0x3FF) << 13 }
    #expect(firstDifference(found, expected) == nil, "\(firstDifference(found, expected) ?? "")")
    let back = try write(found.map { Float(bitPattern: $0) }, as: .f16)
    #expect(firstDifference(back, nan.map { $0 | 0x0200 }) == nil)
  }

  // MARK: bfloat16

  /// (−1)^s · 2^(e−127) · (1 + m/128), in Double.
  @Test("Every bfloat16 of the 65,536 widens to the same Float")
  func bfloat16WidensExactly() throws {
    let found = try read(Self.all, as: .bf16)
    let expected = Self.all.map { pattern -> Float in
      let sign: Double = pattern >> 15 == 0 ? 1 : -1
      let (exponent, fraction) = (Int(pattern >> 7 & 0xFF), Double(pattern & 0x7F) / 128)
      switch exponent {
      case 255: return fraction == 0 ? Float(sign * .infinity) : .nan
      case 0: return Float(sign * fraction * 0x1p-126)
      default: return Float(sign * (1 + fraction) * Double(sign: .plus, exponent: exponent - 127, significand: 1))
      }
    }
    let difference = firstDifference(patterns(found), patterns(expected))
    #expect(difference == nil, "\(difference ?? "")")
    #expect(found[0x7F81].isSignalingNaN && found[0xFFC0].bitPattern == 0xFFC0_0000)
  }

  @Test("Floats round to the nearest bfloat16, ties to even")
  func bfloat16RoundsToNearestEven() throws {
    let finite = Self.all.filter { $0 & 0x7FFF < 0x7F80 }
    for (tail, expected) in [
      (UInt32(0), { $0 }), (1, { $0 }), (0x7FFF, { $0 }), (0x8000, { $0 + $0 & 1 }), (0x8001, { $0 + 1 }),
      (0xFFFF, { $0 + 1 }),
    ] as [(UInt32, (UInt16) -> UInt16)] {
      let found = try write(finite.map { Float(bitPattern: UInt32($0) << 16 | tail) }, as: .bf16)
      let difference = firstDifference(found, finite.map(expected))
      #expect(difference == nil, "low bits \(tail): \(difference ?? "")")
    }
    #expect(try write([.infinity, -.infinity], as: .bf16) == [0x7F80, 0xFF80])
  }

  /// A NaN whose payload lies in the bits that are cut off must not become an infinity.
  @Test("A NaN whose payload is cut off stays a NaN in bfloat16")
  func bfloat16KeepsNaN() throws {
    let found = try write(
      [0x7F80_0001, 0xFF80_FFFF, 0x7FFF_FFFF, 0x7FC0_0000, 0xFFA1_8000].map { Float(bitPattern: $0) }, as: .bf16)
    #expect(found == [0x7FC0, 0xFFC0, 0x7FFF, 0x7FC0, 0xFFE1])
  }

  // MARK: The others

  @Test("Doubles round to the nearest Float, subnormals and overflow included")
  func doubleRoundsToNearestEven() throws {
    let cases: [(Double, UInt32)] = [
      (1, 0x3F80_0000), (1 + 0x1p-24, 0x3F80_0000), (1 + 0x1p-24 + 0x1p-52, 0x3F80_0001), (1 + 0x3p-24, 0x3F80_0002),
      (-0.0, 0x8000_0000), (.infinity, 0x7F80_0000), (1e300, 0x7F80_0000), (-1e300, 0xFF80_0000),
      (0x1.fffffep127, 0x7F7F_FFFF), (0x1.ffffffp127, 0x7F80_0000), (0x1.fffffefp127, 0x7F7F_FFFF),
      (0x1p-149, 1), (0x1p-150, 0), (0x1.8p-149, 2), (0x1.000002p-150, 1), (1e-300, 0), (0x1p-127, 0x0040_0000),
    ]
    let found = try read(cases.map(\.0.bitPattern), as: .f64).map(\.bitPattern)
    #expect(found == cases.map(\.1))
    #expect(try read([Double.nan.bitPattern], as: .f64)[0].isNaN)
  }

  @Test("Float32 values are copied bit for bit")
  func floatIsCopied() throws {
    let patterns: [UInt32] = [0, 0x8000_0000, 1, 0x007F_FFFF, 0x7F7F_FFFF, 0x7F80_0000, 0x7FC0_0001, 0x3DCC_CCCD]
    #expect(try read(patterns, as: .f32).map(\.bitPattern) == patterns)
  }
}
