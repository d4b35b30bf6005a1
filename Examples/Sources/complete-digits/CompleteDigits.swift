// Completes handwritten digits from their upper half: a whole program, from data to picture.
//
//   swift run -c release --package-path Examples complete-digits [steps] [picture.png]
//
// The upper halves are a context image: their patches are tokens before those of the image that is made, with positions of
// their own. Nothing tells the model the class. The digits of the test split, which it never saw, are completed and drawn
// in rows: the upper half, three completions, the real digit.

import DiTEngine
import DiTImaging

@main
enum CompleteDigits {
  static func main() throws {
    let arguments = CommandLine.arguments
    let steps = arguments.count > 1 ? Int(arguments[1]) ?? 1500 : 1500
    let path = arguments.count > 2 ? arguments[2] : "completed.png"

    // Data: (N, 1, 8, 8) in [−1, 1], and the upper four rows of each.
    let images = try SafetensorsFile(contentsOf: "Sources/dit/Resources/digits.safetensors").tensor("images")
    let count = images.shape[0]
    let halves = upperHalves(images)
    let data = try Dataset(images, context: halves, name: "digits and their upper halves")

    // A small model of 16 image tokens and 8 of context.
    var network = DiTConfiguration(
      inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 1, hiddenSize: 96, depth: 4, numHeads: 4, numClasses: 0)
    network.sequence = .image(height: 4, width: 8)
    var diffusion = DiffusionConfiguration(variance: .learnedRange)
    diffusion.schedule = .cosine
    let model = ModelConfiguration(network: network, diffusion: diffusion)

    var training = TrainingConfiguration()
    (training.steps, training.batch, training.learningRate, training.warmupSteps) = (steps, 64, 2e-3, 100)
    (training.flip, training.validationModulus, training.gradientClip) = (false, 5, 1)
    let trainer = try Trainer(model: model, training: training, data: data, context: ComputeContext())
    for _ in 0..<steps {
      let report = try trainer.step()
      if report.step % 100 == 0 { print("step \(report.step): loss \(report.loss)") }
    }

    // Completions of the test split: every fifth image, held out by validationModulus.
    let test = Array(stride(from: 4, to: count, by: 5))
    let dit = try trainer.averagedModel()
    let options = { (seed: UInt64) in
      SamplingOptions(
        sampler: Sampler(.ddpm, steps: 50, schedule: .leading), guidance: Guidance(scale: 1.5), seed: seed)
    }
    let completions = try (0..<3).map { seed in
      try dit.sample(.context(rows(test, of: halves)), options: options(UInt64(seed))).images
    }
    let real = rows(test, of: images)
    let mean = meanImage(images, without: Set(test))
    print("error of the lower half, root mean square over \(test.count) test digits:")
    print("  the completion    \(error(completions[0], real) { $0 })")
    print("  the mean of three \(error(average(completions), real) { $0 })")
    print("  another digit's   \(error(completions[0], real) { ($0 + 1) % test.count })")
    print("  the mean digit    \(error(mean, real) { _ in 0 })")
    print("difference between the upper half that was given and the one that was made:")
    print("  \(error(completions[0], real, from: 0, to: 4) { $0 })")

    // Ten rows: upper half, three completions, the real digit.
    let shown = Array(0..<10)
    let pictures = shown.flatMap { n in
      [masked(real, n)] + completions.map { picture(of: $0, n) } + [picture(of: real, n)]
    }
    let grid = ImageGrid(
      pictures, columns: 5, columnLabels: ["given", "1", "2", "3", "real"])
    try grid.rendered().writePNG(to: path)
    print(path)
  }

  /// The first four of the eight rows of each image.
  static func upperHalves(_ images: Tensor) -> Tensor {
    let elements = (0..<images.shape[0]).flatMap { images.elements[$0 * 64..<$0 * 64 + 32] }
    return Tensor(shape: [images.shape[0], 1, 4, 8], elements: elements)
  }

  /// Some images of a tensor (N, C, H, W).
  static func rows(_ indices: [Int], of tensor: Tensor) -> Tensor {
    let size = tensor.count / tensor.shape[0]
    let elements = indices.flatMap { tensor.elements[$0 * size..<($0 + 1) * size] }
    return Tensor(shape: [indices.count] + tensor.shape.dropFirst(), elements: elements)
  }

  /// The mean of the images that are not left out, as one image.
  static func meanImage(_ images: Tensor, without left: Set<Int>) -> Tensor {
    let kept = (0..<images.shape[0]).filter { !left.contains($0) }
    let sums = (0..<64).map { pixel in kept.reduce(Float(0)) { $0 + images.elements[$1 * 64 + pixel] } }
    return Tensor(shape: [1, 1, 8, 8], elements: sums.map { $0 / Float(kept.count) })
  }

  /// Image by image.
  static func average(_ sets: [Tensor]) -> Tensor {
    let elements = sets[0].elements.indices.map { i in
      sets.reduce(Float(0)) { $0 + $1.elements[i] } / Float(sets.count)
    }
    return Tensor(shape: sets[0].shape, elements: elements)
  }

  /// The root mean square of image n of `real` minus image `index(n)` of `made`, over rows `first` ..< `end`.
  static func error(
    _ made: Tensor, _ real: Tensor, from first: Int = 4, to end: Int = 8, _ index: (Int) -> Int
  ) -> Float {
    var sum: Float = 0
    let pixels = first * 8..<end * 8
    for n in 0..<real.shape[0] {
      for pixel in pixels {
        let difference = made.elements[index(n) * 64 + pixel] - real.elements[n * 64 + pixel]
        sum += difference * difference
      }
    }
    return (sum / Float(real.shape[0] * pixels.count)).squareRoot()
  }

  static func picture(of tensor: Tensor, _ n: Int) -> Image {
    Image(planes: Array(tensor.elements[n * 64..<(n + 1) * 64]), channels: 1, height: 8, width: 8)
  }

  /// The upper half, the rest black.
  static func masked(_ tensor: Tensor, _ n: Int) -> Image {
    let planes = Array(tensor.elements[n * 64..<n * 64 + 32]) + [Float](repeating: -1, count: 32)
    return Image(planes: planes, channels: 1, height: 8, width: 8)
  }
}
