import DiTTensor
import Foundation
import TestSupport

typealias Case = AutoencoderFixture

/// Runs `body` with a new directory that is gone afterwards.
func withDirectory<Result>(_ body: (URL) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appending(path: "dit-autoencoder-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder)
}

/// max|a−b| / max|b|; infinite for other shapes or NaN.
func relative(_ found: Tensor, _ expected: Tensor) -> Double {
  guard found.shape == expected.shape else { return .infinity }
  var (worst, scale) = (0.0, 0.0)
  for i in found.elements.indices {
    let error = abs(Double(found.elements[i]) - Double(expected.elements[i]))
    worst = error.isNaN ? .infinity : max(worst, error)
    scale = max(scale, abs(Double(expected.elements[i])))
  }
  return worst / scale
}
