import ArgumentParser
import DiTEngine
import DiTPictures

/// `dit encode`: images to latents.
struct EncodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "encode",
    abstract: "Encode images to latents, for training on them.",
    discussion: """
      IN is a safetensors file with images (N, C, H, W), in [−1, 1] or U8 read as
      x/127.5 − 1, and optional labels (N); or a folder of pictures, or of class folders, tar archives, or an IDX file
      of pictures, resized and center-cropped to --size. OUT is a safetensors file with

        latents  (N, C, h, w)  the posterior mean (with --draw a sample of the
                               posterior), times the scaling factor
        mean     (N, C, h, w)  unscaled
        logvar   (N, C, h, w)  unscaled, clamped to [−30, 20]
        labels   (N)           and class_names, where IN has them

      which `dit train --data OUT` takes:

        dit encode --model sd-vae pictures/ latents.safetensors --flips

      Ctrl-C stops after the current image and writes what is finished.
      """)

  @OptionGroup var common: AutoencoderOptions

  @Option(
    help: ArgumentHelp(
      "Height and width to which a folder's pictures are resized and cropped: n, or nxm. (default: 256)",
      valueName: "size"))
  var size: String?

  @Flag(help: "Also encode each image mirrored left to right; these follow all the others.")
  var flips = false

  @Flag(help: "Sample latents from the posterior instead of taking its mean.")
  var draw = false

  @Option(help: ArgumentHelp("Random seed of --draw; image n depends on the seed and n alone.", valueName: "n"))
  var seed: UInt64 = 0

  func run() throws {
    let target = try OutputFile(common.output, .safetensors, option: "OUT")
    let side = try size.map(Self.parse)
    let autoencoder = try common.load()
    let data = try images(side, autoencoder.configuration)
    try target.checkWritable()

    Interruption.listen()
    let encoder = LatentEncoder(autoencoder, flips: flips, drawingWithSeed: draw ? seed : nil)
    let total = encoder.count(of: data)
    var bar = ProgressBar("encoding", unit: "images", total: total)
    let encoded = try encode(data, encoder, for: target) { done in
      if done > 0 { bar.update(done) }
      return !Interruption.isRequested
    }
    bar.clear()
    let done = encoded.count
    if done > 0 { try target.write(encoded.tensors, metadata: encoded.metadata) }
    if done < total {
      throw Failure(
        .interrupted, "interrupted: \(done) of \(total) images are finished" + (done > 0 ? " and written" : ""))
    }
    try StandardOutput.write("\(common.output): latents of \(done) \(done == 1 ? "image" : "images")")
    if let note = data.note { StandardError.write("Note: \(note)\n") }
    Warnings.write()
  }

  /// Images that the autoencoder refuses are errors of the input, latents that cannot be kept on the disk of the output.
  private func encode(
    _ data: Dataset, _ encoder: LatentEncoder, for file: OutputFile, progress: (Int) -> Bool
  ) throws -> EncodedLatents {
    do {
      return try attributingErrors(to: common.input) {
        try encoder.encode(data, for: file.path, progress: progress)
      }
    } catch let error as DiTError where error.fileProblem != nil {
      throw Failure(.failure, "\(error)")
    }
  }

  /// The images that IN names.
  private func images(_ side: (height: Int, width: Int)?, _ c: AutoencoderConfiguration) throws -> Dataset {
    guard PictureSets.isOne(common.input) else {
      if side != nil {
        throw Failure.usage("--size", expected: "none, as \(common.input) are no pictures", found: size ?? "")
      }
      let data = try Dataset(contentsOf: common.input)
      guard data.kind == .images else {
        throw Failure.input(common.input, "tensors", expected: "images", found: "latents")
      }
      return data
    }
    func check(_ height: Int, _ width: Int) throws(Failure) {
      guard height % c.factor != 0 || width % c.factor != 0 else { return }
      throw Failure.usage("--size", expected: "multiples of \(c.factor)", found: size ?? "none, for \(height)x\(width)")
    }
    if let side { try check(side.height, side.width) }
    guard let (pictures, _) = try PictureSets.open(common.input) else {
      throw Failure.input(common.input, "pictures", expected: "a folder, tar archives or an IDX file", found: "none")
    }
    let (height, width) = side ?? pictures.shape.map { ($0[1], $0[2]) } ?? (256, 256)
    try check(height, width)
    guard [1, 3].contains(c.imageChannels) else {
      throw Failure.input(
        common.input, "pictures", expected: "an autoencoder of 1 or 3 channels", found: "\(c.imageChannels)")
    }
    let (data, notes) = try pictures.dataset(
      channels: c.imageChannels, height: height, width: width, options: PictureOptions())
    for note in pictures.notes + notes { StandardError.write("Note: \(note)\n") }
    return data
  }

  private static func parse(_ size: String) throws(Failure) -> (height: Int, width: Int) {
    let sides = size.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
    guard (1...2).contains(sides.count), sides.allSatisfy({ (1...8192).contains($0) }) else {
      throw .usage("--size", expected: "a height and width such as 256 or 256x320, up to 8192", found: size)
    }
    return (sides[0], sides[sides.count - 1])
  }
}
