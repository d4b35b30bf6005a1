import DiTFiles
import DiTTensor
import Foundation

/// A safetensors file that Scripts/make_fixtures.py wrote under Tests/Fixtures, in network or another folder.
public struct Fixture {
  private let file: SafetensorsFile

  /// Opens `Tests/Fixtures/FOLDER/NAME.safetensors`.
  public init(_ name: String, folder: String = "network") throws {
    file = try SafetensorsFile(contentsOf: Self.path("\(name).safetensors", folder: folder))
  }

  /// The path of a file under `Tests/Fixtures/FOLDER`.
  public static func path(_ name: String, folder: String = "network") -> String {
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/\(folder)/\(name)").path(percentEncoded: false)
  }

  public var names: [String] { file.names }

  public func shape(_ name: String) throws -> [Int] { try file.requireEntry(named: name).shape }

  /// A tensor of inputs: F32, or BF16 widened.
  public func floats(_ name: String) throws -> [Float] { try file.tensor(name).elements }

  public func integers(_ name: String) throws -> [Int] { try file.integers(name).values }

  /// A tensor of results: F64 as it is, F32 widened.
  public func doubles(_ name: String) throws -> [Double] {
    guard try file.requireEntry(named: name).dtype == .f64 else { return try floats(name).doubles }
    return try file.withBytes(of: name) { bytes in
      (0..<bytes.byteCount / 8).map { i in
        var pattern: UInt64 = 0
        for byte in 0..<8 {
          pattern |= UInt64(unsafe bytes.unsafeLoad(fromByteOffset: 8 * i + byte, as: UInt8.self)) << UInt64(8 * byte)
        }
        return Double(bitPattern: pattern)
      }
    }
  }
}
