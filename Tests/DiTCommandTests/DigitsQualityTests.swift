import DiTFiles
import Foundation
import Testing

/// The shipped model draws the digit it is asked for, and does not copy: judged by the nearest real training image, which
/// names 99.2 % of the real test split correctly. `Scripts/judge_digits.py` judges more sharply.
@Suite("Quality of the shipped digits model") struct DigitsQualityTests {
  private struct Digits {
    let images: [[Float]]
    let labels: [Int]

    init(_ file: SafetensorsFile, _ name: String, where isTaken: (Int) -> Bool = { _ in true }) throws {
      let all = try file.floats(name)
      let labels = try file.integers("labels").values
      let taken = labels.indices.filter(isTaken)
      images = taken.map { Array(all[$0 * 64..<($0 + 1) * 64]) }
      self.labels = taken.map { labels[$0] }
    }

    /// The nearest image's label and distance.
    func nearest(to image: [Float]) -> (label: Int, distance: Float) {
      var best = (label: -1, distance: Float.infinity)
      for (candidate, label) in zip(images, labels) {
        var sum: Float = 0
        for index in 0..<64 { sum += (candidate[index] - image[index]) * (candidate[index] - image[index]) }
        if sum < best.distance { best = (label, sum) }
      }
      return (best.label, best.distance.squareRoot())
    }
  }

  private static var data: String {
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Sources/dit/Resources/digits.safetensors").path(percentEncoded: false)
  }

  @Test("At least 95 of 100 samples are nearest to their own class, and samples are no copies")
  func drawsWhatIsAskedFor() async throws {
    let scratch = try Scratch()
    _ = try await succeed(["sample", "--classes", "0-9", "--count", "10", "--out", scratch.path("x.safetensors")])
    let file = try SafetensorsFile(contentsOf: Self.data)
    let training = try Digits(file, "images") { $0 % 5 != 4 }
    let test = try Digits(file, "images") { $0 % 5 == 4 }
    let drawn = try Digits(try scratch.tensors("x.safetensors"), "images")

    let found = drawn.images.map(training.nearest)
    let agreement = zip(found, drawn.labels).count { $0.label == $1 }
    #expect(agreement >= 95, "\(agreement) of 100 are nearest to a training image of their class")
    let mean = found.reduce(0) { $0 + $1.distance } / 100
    let real = test.images.reduce(0) { $0 + training.nearest(to: $1).distance } / Float(test.images.count)
    #expect(mean >= 0.7 * real, "mean distance to the nearest training image \(mean), of the test split \(real)")
  }
}
