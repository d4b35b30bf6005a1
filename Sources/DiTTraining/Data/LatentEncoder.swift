import DiTAutoencoder
import DiTFiles
import DiTTensor

/// Encodes the images of a data set, for training on their latents.
///
///     let encoded = try LatentEncoder(autoencoder, flips: true).encode(data, for: "latents.safetensors")
///     try SafetensorsWriter.write(encoded.tensors, metadata: encoded.metadata, to: "latents.safetensors")
///
/// What is finished waits on the disk beside the output: memory is that of a few images, whatever their number.
public struct LatentEncoder: Sendable {
  private let autoencoder: Autoencoder
  private let flips: Bool
  private let seed: UInt64?

  /// Images encoded in one call: their tensors take little memory beside the encoder's.
  private static let batch = 8

  /// - Parameters:
  ///   - autoencoder: encodes the images.
  ///   - flips: whether every image is also encoded mirrored left to right; these follow all the others.
  ///   - seed: draws the latents from their distributions, image n's from stream n under this seed; nil is the mean.
  public init(_ autoencoder: Autoencoder, flips: Bool = false, drawingWithSeed seed: UInt64? = nil) {
    (self.autoencoder, self.flips, self.seed) = (autoencoder, flips, seed)
  }

  /// How many latents a data set makes: one per image, or two with flips.
  public func count(of data: Dataset) -> Int { data.count * (flips ? 2 : 1) }

  /// Encodes images.
  ///
  /// - Parameters:
  ///   - data: `images`, of a size that the autoencoder takes.
  ///   - output: the file that the latents are to be written to; nothing but a nameless file beside it is written yet.
  ///   - progress: called with the number of images finished, before the first and after each; false stops there.
  /// - Throws: `DiTError` for images that the autoencoder does not take, for one that cannot be read, naming `output`
  ///   where the disk is full.
  public func encode(
    _ data: Dataset, for output: String, progress: (Int) -> Bool = { _ in true }
  ) throws -> EncodedLatents {
    let total = count(of: data)
    let latents = try FloatTempFile(for: output)
    let (mean, logvar) = (try FloatTempFile(for: output), try FloatTempFile(for: output))
    var shape: [Int] = []
    var done = 0
    var goesOn = progress(0)
    while done < total && goesOn {
      // No batch has both plain and mirrored images.
      let count = min(Self.batch, (done < data.count ? data.count : total) - done)
      let part = try autoencoder.encode(try images(done..<done + count, of: data)) { finished in
        goesOn = progress(done + finished)
        return goesOn
      }
      try latents.append((seed.map { part.draw(seed: $0, first: done) } ?? part.latents).elements)
      try mean.append(part.mean.elements)
      try logvar.append(part.logvar.elements)
      shape = Array(part.mean.shape.dropFirst())
      done += part.mean.shape[0]
    }
    guard done > 0 else { return EncodedLatents(count: 0, tensors: [], metadata: [:]) }
    var tensors = [("latents", latents), ("mean", mean), ("logvar", logvar)].map { name, numbers in
      numbers.source(name, shape: [done] + shape)
    }
    if let labels = data.labels {
      tensors.append(TensorSource("labels", shape: [done], integers: (0..<done).map { labels[$0 % data.count] }))
    }
    return EncodedLatents(count: done, tensors: tensors, metadata: data.classNamesMetadata)
  }

  /// Images of the whole order, in which the mirrored ones follow the others: (range.count, C, H, W).
  private func images(_ range: Range<Int>, of data: Dataset) throws(DiTError) -> Tensor {
    var pixels: [Float] = []
    pixels.reserveCapacity(range.count * data.sampleCount)
    for n in range { pixels += try data.sample(n % data.count, flipped: n >= data.count) }
    return Tensor(shape: [range.count, data.channels, data.height, data.width], elements: pixels)
  }
}

/// What ``LatentEncoder`` made, ready to be written to a safetensors file that ``Dataset`` reads.
public struct EncodedLatents {
  /// Images finished.
  public let count: Int
  /// `latents`, `mean` and `logvar` (N, C, h, w), and `labels` (N) where the data have them; none where N is 0.
  public let tensors: [TensorSource]
  /// `class_names` where the data have them.
  public let metadata: [String: String]
}

extension Dataset {
  /// A file's metadata that say ``classNames``.
  fileprivate var classNamesMetadata: [String: String] {
    classNames.map { [Self.classNamesKey: JSONValue.array($0.map { .string($0) }).text] } ?? [:]
  }
}
