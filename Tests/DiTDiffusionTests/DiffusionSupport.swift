// What the tests of this target share: fixtures, seeded numbers, an error measure.

import DiTDiffusion
import DiTKernels
import DiTTensor
import Foundation

/// A safetensors fixture, every value widened to Double. It trusts the file: the real reader is another target's.
struct Fixture {
  private struct Entry: Decodable {
    let dtype: String
    let shape: [Int]
    let offsets: [Int]

    enum CodingKeys: String, CodingKey {
      case dtype, shape
      case offsets = "data_offsets"
    }
  }

  let names: [String]
  private let entries: [String: Entry]
  private let data: [UInt8]

  /// Opens Tests/Fixtures/diffusion/NAME.safetensors.
  init(_ name: String) throws {
    let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let bytes = [UInt8](try Data(contentsOf: tests.appending(path: "Fixtures/diffusion/\(name).safetensors")))
    let end = 8 + Int(Self.littleEndian(bytes[0..<8]))
    var header = try JSONSerialization.jsonObject(with: Data(bytes[8..<end])) as? [String: Any] ?? [:]
    header["__metadata__"] = nil
    entries = try JSONDecoder().decode([String: Entry].self, from: JSONSerialization.data(withJSONObject: header))
    names = entries.keys.sorted()
    data = [UInt8](bytes[end...])
  }

  /// All values of a tensor; an unknown name is a broken fixture.
  func values(_ name: String) throws -> [Double] {
    guard let entry = entries[name] else { throw DiTError(option: name, expected: "a tensor", found: "none") }
    let decoders: [String: (size: Int, decode: (UInt64) -> Double)] = [
      "F32": (4, { Double(Float(bitPattern: UInt32($0))) }),
      "F64": (8, { Double(bitPattern: $0) }),
      "I32": (4, { Double(Int32(bitPattern: UInt32($0))) }),
      "I64": (8, { Double(Int64(bitPattern: $0)) }),
    ]
    guard let (size, decode) = decoders[entry.dtype] else {
      throw DiTError(option: name, expected: "a known dtype", found: entry.dtype)
    }
    return stride(from: entry.offsets[0], to: entry.offsets[1], by: size).map {
      decode(Self.littleEndian(data[$0..<$0 + size]))
    }
  }

  func floats(_ name: String) throws -> [Float] { try values(name).map { Float($0) } }
  func integers(_ name: String) throws -> [Int] { try values(name).map { Int($0) } }

  private static func littleEndian(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}

extension Collection<Float> {
  var doubles: [Double] { map { Double($0) } }
}

/// SplitMix64 with Box–Muller: the same numbers on every machine.
struct Random: RandomNumberGenerator {
  var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func normal() -> Float {
    let radius = (-2 * log(1 - Double.random(in: 0..<1, using: &self))).squareRoot()
    return Float(radius * cos(2 * .pi * Double.random(in: 0..<1, using: &self)))
  }

  mutating func normals(_ count: Int) -> [Float] { (0..<count).map { _ in normal() } }
}

/// The published schedule with another rule or variance.
func noiseSchedule(
  _ schedule: BetaSchedule = .linear, _ variance: Variance = .learnedRange, prediction: Prediction = .epsilon,
  steps: Int = 1000
) throws -> NoiseSchedule {
  try NoiseSchedule(
    DiffusionConfiguration(steps: steps, schedule: schedule, prediction: prediction, variance: variance))
}

/// A linear path.
func linearSchedule(_ prediction: Prediction, _ time: LinearTime, noiseScale: Double = 1) throws -> NoiseSchedule {
  try NoiseSchedule(
    DiffusionConfiguration(
      path: .linear, prediction: prediction, variance: .fixedSmall, networkTime: time, noiseScale: noiseScale))
}
