import ArgumentParser
import DiTImaging
import DiffusionTransformers

/// `dit decode`: latents to images.
struct DecodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "decode",
    abstract: "Make images of latents.",
    discussion: """
      IN is a safetensors file with latents (N, C, h, w), or the samples of a latent
      model, times the autoencoder's scaling factor as training and sampling have
      them. The ending of OUT says what is written:
        .safetensors  images (N, C, H, W) clipped to [−1, 1], and IN's labels
        .png          a grid
        .npz          arr_0, uint8 (N, H, W, C)

        dit decode --model sd-vae latents.safetensors images.safetensors

      Ctrl-C stops after the image at hand and writes what is finished.
      """)

  @OptionGroup var common: AutoencoderOptions

  func run() throws {
    let target = try OutputFile(common.output, .safetensors, .png, .npz, option: "OUT")
    let autoencoder = try common.load()
    if target.format != .safetensors, ![1, 3].contains(autoencoder.configuration.imageChannels) {
      throw Failure.usage(
        "OUT",
        expected: ".safetensors, as images of \(autoencoder.configuration.imageChannels) channels are no pictures",
        found: common.output)
    }
    let file = try TensorFile(common.input)
    let name = file.contains("latents") || !file.contains("samples") ? "latents" : "samples"
    let latents = try file.images(name)
    let labels = file.contains("labels") ? try file.integers("labels") : nil
    if let labels, labels.count != latents.shape[0] {
      throw Failure.input(
        common.input, "tensor labels", expected: "\(latents.shape[0]) labels", found: "\(labels.count)")
    }
    try target.checkWritable()

    Interruption.listen()
    let total = latents.shape[0]
    var bar = ProgressBar("decoding", unit: "images", total: total)
    let images = try blaming(common.input) {
      try autoencoder.decode(latents) { finished in
        bar.update(finished)
        return !Interruption.isRequested
      }
    }
    bar.clear()
    let done = images.shape[0]
    try DecodedImages(images).write(labels: labels.map { Array($0.prefix(done)) } ?? [], to: target)
    if done < total { throw Failure(.interrupted, "interrupted: \(done) of \(total) images are finished and written") }
    print("\(common.output): \(done) \(done == 1 ? "image" : "images")")
    Warnings.write()
  }
}

/// Images as an autoencoder leaves them: clipped on their way out.
struct DecodedImages {
  let clipped: Tensor

  init(_ images: Tensor) {
    clipped = Tensor(shape: images.shape, elements: images.elements.map { min(1, max(-1, $0)) })
  }

  var pictures: [Image] {
    let size = clipped.shape.dropFirst().reduce(1, *)
    let elements = clipped.elements.span
    return (0..<clipped.shape[0]).map {
      Image(
        planes: elements.extracting($0 * size..<($0 + 1) * size), channels: clipped.shape[1],
        height: clipped.shape[2], width: clipped.shape[3])
    }
  }

  func write(labels: [Int], to file: OutputFile) throws(Failure) {
    switch file.format {
    case .safetensors:
      try file.write([TensorSource("images", clipped)] + (labels.isEmpty ? [] : [TensorSource("labels", labels)]))
    case .npz:
      let s = clipped.shape
      let pixels = pictures.flatMap(\.pixels)
      try file.saving {
        try NPZFile.write([NPZFile.Array("arr_0", shape: [s[0], s[2], s[3], s[1]], bytes: pixels)], to: file.path)
      }
    case .png:
      let pictures = pictures
      let grid = ImageGrid(pictures, columns: ImageGrid.compactColumns(for: pictures.count)).rendered()
      try file.saving { try grid.writePNG(to: file.path) }
    case .json: preconditionFailure("images are not written as JSON")
    }
  }
}
