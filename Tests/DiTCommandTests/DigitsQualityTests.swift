import DiTFiles
import Foundation
import Testing

/// The shipped model draws the digit it is asked for, and does not copy: judged by the nearest real training image, which
/// names 99.2 % of the real test split correctly. `Scripts/judge_digits.py` judges more sharply.
@Suite("Quality of the shipped digits model") struct DigitsQualityTests {
  private struct Digits {
    /// (N, 64).
    let images: [Float]
    let labels: [Int]

    init(_ file: SafetensorsFile, _ name: String, where isTaken: (Int) -> Bool = { _ in true }) throws {
      let all = try file.floats(name)
      let labels = try file.integers("labels").values
      let taken = labels.indices.filter(isTaken)
      images = taken.flatMap { all[$0 * 64..<($0 + 1) * 64] }
      self.labels = taken.map { labels[$0] }
    }

    /// The label and the distance of the nearest image to each image of `others`.
    func nearest(to others: Digits) -> [(label: Int, distance: Float)] {
      let (candidates, images) = (images.span, others.images.span)
      return others.labels.indices.map { n in
        var best = (label: -1, distance: Float.infinity)
        for candidate in labels.indices {
          var sum: Float = 0
          for index in 0..<64 {
            let difference = candidates[candidate * 64 + index] - images[n * 64 + index]
            sum += difference * difference
          }
          if sum < best.distance { best = (labels[candidate], sum) }
        }
        return (best.label, best.distance.squareRoot())
      }
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

    let found = training.nearest(to: drawn)
    let agreement = zip(found, drawn.labels).count { $0.label == $1 }
    #expect(agreement >= 95, "\(agreement) of 100 are nearest to a training image of their class")
    let mean = found.reduce(0) { $0 + $1.distance } / 100
    let real = training.nearest(to: test).reduce(0) { $0 + $1.distance } / Float(test.labels.count)
    #expect(mean >= 0.7 * real, "mean distance to the nearest training image \(mean), of the test split \(real)")
  }
}
