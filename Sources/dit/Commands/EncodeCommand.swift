import ArgumentParser
import DiTPictures
import DiffusionTransformers

/// `dit encode`: images to latents.
struct EncodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "encode",
    abstract: "Make latents of images, for training on them.",
    discussion: """
      IN is a safetensors file with images (N, C, H, W), in [−1, 1] or U8 read as
      x/127.5 − 1, and perhaps labels (N); or a folder of pictures, or of class folders
      of pictures, fitted to --size. OUT is a safetensors file with

        latents  (N, C, h, w)  the mean (or with --draw a draw), times the
                               autoencoder's scaling factor
        mean     (N, C, h, w)  unscaled
        logvar   (N, C, h, w)  unscaled, clamped to [−30, 20]
        labels   (N)           and class_names, where IN has them

      which `dit train --data OUT` takes:

        dit encode --model sd-vae pictures/ latents.safetensors --flips

      Ctrl-C stops after the image at hand and writes what is finished.
      """)

  @OptionGroup var common: AutoencoderOptions

  @Option(
    help: ArgumentHelp(
      "Height and width that a folder's pictures are fitted to: n, or nxm. (default: 256)", valueName: "size"))
  var size: String?

  @Flag(help: "Also encode every image mirrored, left to right: these follow all the others.")
  var flips = false

  @Flag(help: "Latents are drawn from their distributions, instead of the mean.")
  var draw = false

  @Option(help: ArgumentHelp("Seed of --draw; image n's draw depends on it and n.", valueName: "n"))
  var seed: UInt64 = 0

  func run() throws {
    let target = try OutputFile(common.output, .safetensors, option: "OUT")
    let side = try size.map(Self.parse)
    let autoencoder = try common.load()
    let data = try images(side, autoencoder.configuration)
    try target.checkWritable()

    Interruption.listen()
    let total = data.count * (flips ? 2 : 1)
    var bar = ProgressBar("encoding", unit: "images", total: total)
    let (latents, mean, logvar) = try (
      FloatTempFile(for: target), FloatTempFile(for: target), FloatTempFile(for: target)
    )
    var shape: [Int] = []
    var done = 0
    while done < total, !Interruption.isRequested {
      let batch = min(Autoencoder.batch, (done < data.count ? data.count : total) - done)
      let pixels = try (done..<done + batch).flatMap { n in
        try data.sample(n % data.count, flipped: n >= data.count)
      }
      let images = Tensor(shape: [batch, data.channels, data.height, data.width], elements: pixels)
      let part = try attributingErrors(to: common.input) {
        try autoencoder.encode(images) { finished in
          bar.update(done + finished)
          return !Interruption.isRequested
        }
      }
      try latents.append((draw ? part.draw(seed: seed, first: done) : part.latents).elements)
      try mean.append(part.mean.elements)
      try logvar.append(part.logvar.elements)
      shape = Array(part.mean.shape.dropFirst())
      done += part.mean.shape[0]
    }
    bar.clear()
    if done > 0 {
      shape.insert(done, at: 0)
      let tensors = [("latents", latents), ("mean", mean), ("logvar", logvar)].map { $1.source($0, shape: shape) }
      try write(tensors, data, done, to: target)
    }
    if done < total {
      throw Failure(
        .interrupted, "interrupted: \(done) of \(total) images are finished" + (done > 0 ? " and written" : ""))
    }
    print("\(common.output): latents of \(done) \(done == 1 ? "image" : "images")")
    Warnings.write()
  }

  private func write(_ tensors: [TensorSource], _ data: Dataset, _ count: Int, to file: OutputFile) throws {
    var tensors = tensors
    if let labels = data.labels {
      tensors.append(TensorSource("labels", (0..<count).map { labels[$0 % data.count] }))
    }
    var metadata: [String: String] = [:]
    if let names = data.classNames {
      metadata["class_names"] = JSONValue.array(names.map { .string($0) }).text
    }
    try file.write(tensors, metadata: metadata)
  }

  /// The images that IN names.
  private func images(_ side: (height: Int, width: Int)?, _ c: AutoencoderConfiguration) throws -> Dataset {
    guard TrainingData.isFolder(common.input) else {
      if side != nil {
        throw Failure.usage("--size", expected: "none, as \(common.input) is no folder", found: size ?? "")
      }
      let data = try Dataset(contentsOf: common.input)
      guard data.kind == .images else {
        throw Failure.input(common.input, "tensors", expected: "images", found: "latents")
      }
      return data
    }
    let (height, width) = side ?? (256, 256)
    guard height % c.factor == 0, width % c.factor == 0 else {
      throw Failure.usage("--size", expected: "multiples of \(c.factor)", found: size ?? "256")
    }
    guard [1, 3].contains(c.imageChannels) else {
      throw Failure.input(
        common.input, "pictures", expected: "an autoencoder of 1 or 3 channels", found: "\(c.imageChannels)")
    }
    let folder = try ImageFolder(common.input)
    let (data, notes) = try folder.dataset(channels: c.imageChannels, height: height, width: width)
    for note in folder.notes + notes { StandardError.write("Note: \(note)\n") }
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
