import DiTImaging
import DiTTensor
import Foundation
import Testing

/// A folder of Tests/Fixtures, made by a script of Scripts/fixtures.
struct Fixtures {
  /// PNGs of every kind, and broken ones (imaging.py).
  static let imaging = Fixtures("imaging")
  /// JPEGs, and images fitted to a size (pictures.py).
  static let pictures = Fixtures("pictures")

  /// WebPs of every kind, and broken ones (webp.py).
  static let webp = Fixtures("webp")
  /// A font of a few characters, and lines of text in it (fonts.py).
  static let fonts = Fixtures("fonts")

  let directory: URL

  private init(_ name: String) {
    directory = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/\(name)")
  }

  func path(_ name: String) -> String { directory.appending(path: name).path }

  func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: directory.appending(path: name))) }

  /// The names, without ending, of files which have an ending.
  func names(ending: String) -> [String] {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
    return files.filter { $0.hasSuffix(ending) }.map { String($0.dropLast(ending.count)) }.sorted()
  }

  /// What `name`.pgm or `name`.ppm holds.
  func pnm(_ name: String) throws -> Image {
    let isGray = FileManager.default.fileExists(atPath: path(name + ".pgm"))
    let bytes = try bytes(name + (isGray ? ".pgm" : ".ppm"))
    let fields = bytes.split(whereSeparator: { $0 == 10 || $0 == 32 }).prefix(4).map {
      String(decoding: $0, as: UTF8.self)
    }
    guard fields.count == 4, let width = Int(fields[1]), let height = Int(fields[2]) else {
      throw CocoaError(.fileReadCorruptFile)
    }
    let channels = fields[0] == "P5" ? 1 : 3
    let pixels = Array(bytes.suffix(width * height * channels))
    return Image(width: width, height: height, channels: channels, pixels: pixels)
  }
}

/// Expects the same shape, and samples that differ by `tolerance` at most.
func expect(
  _ image: Image, equals expected: Image, within tolerance: Int = 0, _ name: String,
  location: SourceLocation = #_sourceLocation
) {
  let shape = [image.height, image.width, image.channels]
  let wanted = [expected.height, expected.width, expected.channels]
  #expect(shape == wanted, "\(name): (height, width, channels)", sourceLocation: location)
  guard shape == wanted else { return }
  let differences = zip(image.pixels, expected.pixels).map { abs(Int($0) - Int($1)) }
  let first = differences.firstIndex { $0 > tolerance }
  #expect(
    first == nil, "\(name): largest difference \(differences.max() ?? 0), first at \(first ?? -1)",
    sourceLocation: location)
}

/// A seeded generator (SplitMix64).
struct Seeded: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

extension Image {
  /// Noise.
  static func random(width: Int, height: Int, channels: Int, seed: UInt64) -> Image {
    var generator = Seeded(state: seed)
    let pixels = (0..<width * height * channels).map { _ in UInt8.random(in: 0...255, using: &generator) }
    return Image(width: width, height: height, channels: channels, pixels: pixels)
  }

  /// Samples that differ from another image of the same shape, as (row, column).
  func differences(from other: Image) -> [(row: Int, column: Int)] {
    pixels.indices.filter { pixels[$0] != other.pixels[$0] }.map {
      ($0 / channels / width, $0 / channels % width)
    }
  }
}

extension Image: CustomTestStringConvertible {
  /// The shape: a failed expectation does not print every sample.
  public var testDescription: String { "Image \(height)×\(width)×\(channels)" }
}

/// An empty folder that is removed afterwards.
func withTemporaryDirectory<Result>(_ body: (URL) throws -> Result) throws -> Result {
  let directory = FileManager.default.temporaryDirectory.appending(path: "imaging-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: directory) }
  return try body(directory)
}

/// Expects every beginning of a file without checksums to be refused, and one with a flipped bit to be refused in one line
/// or to give an image of its header's size.
func expectDamageIsHarmless(_ data: [UInt8]) {
  let accepted = (0..<data.count).filter { (try? Image(encoded: Array(data[..<$0]))) != nil }
  #expect(accepted.isEmpty, "beginnings of \(accepted) bytes were read")
  let limits = ImageLimits(pixels: 1 << 16)
  for byte in data.indices {
    var damaged = data
    damaged[byte] ^= 1 << UInt8(byte % 8)
    do throws(DiTError) {
      let image = try Image(encoded: damaged, limits: limits)
      let header = try ImageHeader(of: damaged)
      #expect(image.width == header.width && image.height == header.height)
    } catch {
      #expect(!error.description.contains("\n"))
    }
  }
}
