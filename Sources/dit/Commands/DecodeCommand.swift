import ArgumentParser
import DiTEngine
import DiTImaging
import DiTPictures

/// `dit decode`: latents to images.
struct DecodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "decode",
    abstract: "Decode latents to images.",
    discussion: """
      IN is a safetensors file with latents (N, C, h, w), or the samples of a latent
      model, scaled as in training and sampling (times the scaling factor). The
      ending of OUT decides what is written:
        .safetensors  images (N, C, H, W) clipped to [−1, 1], and IN's labels
        .png          a grid
        .npz          arr_0, uint8 (N, H, W, C)

        dit decode --model sd-vae latents.safetensors images.safetensors

      Ctrl-C stops after the current image and writes what is finished.
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
    var images = ImageCollection(as: ImageCollection.Form(for: target.format))
    try attributingErrors(to: common.input) { try images.decodeWithBar(latents, with: autoencoder) }
    let done = images.count
    try Self.write(images, labels: labels.map { Array($0.prefix(done)) } ?? [], to: target)
    if done < total { throw Failure(.interrupted, "interrupted: \(done) of \(total) images are finished and written") }
    try StandardOutput.write("\(common.output): \(done) \(done == 1 ? "image" : "images")")
    Warnings.write()
  }

  private static func write(_ images: ImageCollection, labels: [Int], to file: OutputFile) throws(Failure) {
    switch file.format {
    case .safetensors:
      try file.write([TensorSource("images", images.tensor)] + (labels.isEmpty ? [] : [TensorSource("labels", labels)]))
    case .npz: try images.writeNPZ(to: file)
    case .png:
      let grid = ImageGrid(images.pictures, columns: ImageGrid.compactColumns(for: images.count)).rendered()
      try file.saving { try grid.writePNG(to: file.path) }
    case .json: preconditionFailure("images are not written as JSON")
    }
  }
}
