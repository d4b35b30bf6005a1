import DiTImaging
import DiTNumpy
import DiffusionTransformers

/// Images on their way into a file: numbers for .safetensors, else in 8 bits, a quarter of the memory.
struct ImageCollection {
  /// (C, H, W).
  private var shape: [Int] = []
  /// For .safetensors, clipped to [−1, 1].
  private var values: [Float] = []
  /// For the other formats.
  private(set) var pictures: [Image] = []
  private(set) var count = 0
  private let format: OutputFile.Format

  init(for format: OutputFile.Format) { self.format = format }

  /// Images that are there already, (N, C, H, W).
  init(_ images: Tensor, for format: OutputFile.Format) {
    self.init(for: format)
    append(images)
  }

  /// Appends images (N, C, H, W), pixels in [−1, 1] or beyond, all of one shape.
  mutating func append(_ images: Tensor) {
    shape = Array(images.shape.dropFirst())
    count += images.shape[0]
    if format == .safetensors {
      values += images.elements.lazy.map { min(1, max(-1, $0)) }
      return
    }
    let size = shape.reduce(1, *)
    let elements = images.elements.span
    for n in 0..<images.shape[0] {
      let planes = elements.extracting(n * size..<(n + 1) * size)
      pictures.append(Image(planes: planes, channels: shape[0], height: shape[1], width: shape[2]))
    }
  }

  /// The images as numbers, (N, C, H, W).
  var tensor: TensorSource { TensorSource("images", Tensor(shape: [count] + shape, elements: values)) }

  /// Writes `arr_0`, (N, H, W, C) uint8.
  func writeNPZ(to file: OutputFile) throws(Failure) {
    let pixels = pictures.flatMap(\.pixels)
    let array = NPYArray(shape: [count, shape[1], shape[2], shape[0]], bytes: pixels)
    try file.saving { try NPZFile.write([("arr_0", array)], to: file.path) }
  }
}

extension Autoencoder {
  /// Decodes latents (N, C, h, w) a few at a time into `images`, with a bar, until somebody asks to stop: images that are
  /// done then are there. A request from before this began counts no more.
  ///
  /// - Throws: `AutoencoderInputError`.
  func decode(_ latents: Tensor, into images: inout ImageCollection) throws(AutoencoderInputError) {
    let total = latents.shape.first ?? 0
    var bar = ProgressBar("decoding", unit: "images", total: total)
    defer { bar.clear() }
    let wasStopped = Interruption.isRequested
    func goesOn() -> Bool { wasStopped || !Interruption.isRequested }
    repeat {  // also where there is none, which is an error of its own
      let first = images.count
      let part = latents.range(first..<min(first + Self.batch, total))
      images.append(
        try decode(part) { finished in
          bar.update(first + finished)
          return goesOn()
        })
    } while images.count < total && goesOn()
  }

  /// Images between two looks at what is kept: their tensors take little beside the work.
  static let batch = 8
}
