import DiTKernels
import DiTTensor
import Synchronization

/// An AutoencoderKL (Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022): images ↔
/// latents.
///
/// Latents are those of the diffusion model everywhere: shifted and scaled as ``LatentScaling`` says. Pixels are in [−1, 1]
/// on the way in; on the way out they are what the decoder computes, not clipped.
///
/// Group normalization and attention see a whole image, so an image is never cut into tiles: its layers are computed row
/// by row of tiles of a few pixels, over statistics of the whole. Images are computed one after another; results do not
/// depend on their number or on the threads. Weights are packed when they are first used, the encoder's and the decoder's
/// apart, and kept, unless the image is so large (over ``largeImage`` pixels) that the memory is worth more.
///
/// Immutable: several threads may use one at once, each call with memory of its own.
public final class Autoencoder: Sendable {
  public let configuration: AutoencoderConfiguration
  public let context: ComputeContext
  public let numerics: Numerics
  /// What was passed over or assumed when it was read, one line each, for its user.
  public let notes: [String]
  private let encoder: EncoderLayers
  private let decoder: DecoderLayers
  /// The memory of the last call, for the next one.
  private let idle = Mutex<Buffer?>(nil)
  private let wholeImageLimit: Int

  /// Images of more pixels keep neither packed weights nor memory for the next.
  public static let largeImage = 768 * 768

  /// The autoencoder that `store` holds under diffusers' names, new or old, or CompVis's, bare or under
  /// `first_stage_model.`.
  ///
  /// - Parameters:
  ///   - store: the tensors.
  ///   - configuration: the parts and sizes.
  ///   - context: where to run.
  ///   - numerics: the format of the products' operands and the matrix-multiplication backend. Between layers everything is float32.
  ///   - wholeImageLimit: elements of an upsampled image that may be held whole; a larger one is computed twice in bands
  ///     of rows, with the same results.
  ///   - notes: what was passed over or assumed of the configuration.
  /// - Throws: `DiTError`, and what the store throws.
  /// - Precondition: `numerics` are supported.
  public init(
    _ store: some TensorStore, configuration: AutoencoderConfiguration, context: ComputeContext,
    numerics: Numerics = Numerics(), wholeImageLimit: Int = 1 << 27, notes: [String] = []
  ) throws {
    precondition(numerics.isSupported, "OpenBLAS has no products of bf16")
    if let (key, expected, found) = configuration.problem {
      throw DiTError(file: store.path, .key(key), expected: expected, found: found)
    }
    guard let scheme = NamingScheme(store) else {
      throw DiTError(
        file: store.path, .entry("tensors"),
        expected: "an autoencoder's, such as encoder.down_blocks.0.resnets.0.norm1.weight", found: "none of this name")
    }
    let tensors = NamedTensors(store: store, scheme: scheme, blocks: configuration.blockChannels.count)
    try tensors.check(configuration)
    encoder = try EncoderLayers(configuration, tensors.read)
    decoder = try DecoderLayers(configuration, tensors.read)
    self.configuration = configuration
    self.context = context
    self.numerics = numerics
    self.wholeImageLimit = wholeImageLimit
    self.notes = notes
  }

  /// The images of latents.
  ///
  /// - Parameters:
  ///   - latents: (N, latentChannels, h, w), scaled as the diffusion model has them.
  ///   - progress: called after each image with how many are done; false stops there.
  /// - Returns: (M, imageChannels, h·factor, w·factor), not clipped; M < N where `progress` stopped it.
  /// - Throws: `DiTError`, also when an image is not finite.
  public func decode(
    _ latents: Tensor, progress: (Int) -> Bool = { _ in true }
  ) throws -> Tensor {
    let c = configuration
    let (count, height, width) = try check(latents, "latents", channels: c.latentChannels, multiple: 1)
    let scaling = c.scaling
    let shape = (c.imageChannels, height * c.factor, width * c.factor)
    return try run("images", count, shape, progress) { n, pass, out in
      let latent = pass.featureMap(height, width, c.latentChannels)
      read(latents, n, latent, pass.memory, unscaling: scaling)
      let image = pass.decode(decoder, latent)
      if let out { write(image, pass.memory, out) }
      pass.free(image)
    }
  }

  /// The distributions of images' latents.
  ///
  /// - Parameters:
  ///   - images: (N, imageChannels, H, W) in [−1, 1], H and W multiples of ``AutoencoderConfiguration/factor``.
  ///   - progress: as for ``decode(_:progress:)``.
  /// - Throws: `DiTError`, also when a mean or variance is not finite.
  public func encode(
    _ images: Tensor, progress: (Int) -> Bool = { _ in true }
  ) throws -> LatentDistribution {
    let c = configuration
    let (count, height, width) = try check(images, "images", channels: c.imageChannels, multiple: c.factor)
    let shape = (2 * c.latentChannels, height / c.factor, width / c.factor)
    let moments = try run("latents", count, shape, progress) { n, pass, out in
      let image = pass.featureMap(height, width, c.imageChannels)
      read(images, n, image, pass.memory)
      let latent = pass.encode(encoder, image)
      if let out { write(latent, pass.memory, out) }
      pass.free(latent)
    }
    return LatentDistribution(moments, scaling: c.scaling)
  }

  /// Bytes of the memory that decoding an image of these latents works in, weights apart.
  public func decodingMemory(latentHeight: Int, latentWidth: Int) -> Int {
    var pass = pass(nil, pixels: latentHeight * latentWidth * configuration.factor * configuration.factor)
    let latent = pass.featureMap(latentHeight, latentWidth, configuration.latentChannels)
    pass.free(pass.decode(decoder, latent))
    return 4 * pass.memory.peak
  }

  // MARK: Running

  private func pass(_ buffer: MutableFloatSlice?, pixels: Int) -> Pass {
    let settings = ComputeSettings(context: context, numerics: numerics, keepsPacked: pixels <= Self.largeImage)
    return Pass(
      settings: settings, groups: configuration.groups, memory: PassMemory(buffer), wholeImageLimit: wholeImageLimit)
  }

  /// Plans once, then runs image by image into (count, shape).
  private func run(
    _ name: String, _ count: Int, _ shape: (Int, Int, Int), _ progress: (Int) -> Bool,
    _ body: (Int, inout Pass, MutableFloatSlice?) -> Void
  ) throws(DiTError) -> Tensor {
    let size = shape.0 * shape.1 * shape.2
    let c = configuration
    let pixels = shape.0 == c.imageChannels ? shape.1 * shape.2 : shape.1 * shape.2 * c.factor * c.factor
    var plan = pass(nil, pixels: pixels)
    body(0, &plan, nil)
    let memory = takeMemory(plan.memory.peak)
    defer { if pixels <= Self.largeImage { idle.withLock { $0 = memory.buffer } } }
    let result = MutableFloatSlice(zeros: count * size)
    var done = 0
    while done < count {
      var pass = pass(memory, pixels: pixels)
      let image = result[done * size..<(done + 1) * size]
      body(done, &pass, image)
      if let bad = image.span.firstNotFinite { throw DiTError(overflow: name, image: done, found: image[bad]) }
      done += 1
      if !progress(done) { break }
    }
    return Tensor(shape: [done, shape.0, shape.1, shape.2], elements: result[0..<done * size].array)
  }

  private func takeMemory(_ count: Int) -> MutableFloatSlice {
    let kept = idle.withLock { kept in
      defer { kept = nil }
      return kept
    }
    if let kept, kept.count >= count { return MutableFloatSlice(kept) }
    return MutableFloatSlice(zeros: count)
  }

  private func check(
    _ tensor: Tensor, _ name: String, channels: Int, multiple: Int
  ) throws(DiTError) -> (count: Int, height: Int, width: Int) {
    let s = tensor.shape
    let largest = 1 << 16
    guard s.count == 4, s[0] > 0, s[1] == channels, s[2] > 0, s[3] > 0, s[2] % multiple == 0, s[3] % multiple == 0,
      max(s[2], s[3]) / multiple <= largest / configuration.factor
    else {
      let sides = multiple == 1 ? "H and W of at least 1" : "H and W multiples of \(multiple)"
      throw DiTError(
        argument: name, expected: "shape [N, \(channels), H, W] with N ≥ 1, \(sides), up to \(largest) pixels",
        found: "\(s)")
    }
    if let found = tensor.notFinite {
      throw DiTError(argument: name, expected: "finite numbers", found: found)
    }
    return (s[0], s[2], s[3])
  }

  /// Image n of (N, C, H, W) as (H, W, C); of latents with `unscaling`, those of the autoencoder.
  private func read(
    _ tensor: Tensor, _ n: Int, _ plane: FeatureMap, _ memory: PassMemory, unscaling: LatentScaling? = nil
  ) {
    guard !memory.isPlan else { return }
    let target = memory.slice(plane.memory)
    var out = target.mutableSpan
    let (channels, pixels) = (plane.channels, plane.pixels)
    let planes = tensor.elements.span.extracting(n * channels * pixels..<(n + 1) * channels * pixels)
    for c in 0..<channels {
      let (factor, offset) = unscaling.map { (Float(1 / $0.factors[c]), Float($0.offsets[c])) } ?? (1, 0)
      for i in 0..<pixels { out[i * channels + c] = planes[c * pixels + i] * factor + offset }
    }
  }

  /// (H, W, C) as (C, H, W).
  private func write(_ plane: FeatureMap, _ memory: PassMemory, _ target: MutableFloatSlice) {
    let source = memory.slice(plane.memory)
    var out = target.mutableSpan
    let image = source.span
    let (channels, pixels) = (plane.channels, plane.pixels)
    for c in 0..<channels {
      for i in 0..<pixels { out[c * pixels + i] = image[i * channels + c] }
    }
  }
}
