import DiTAutoencoder
import DiTDiffusers
import DiTFiles
import DiTKernels
import DiTTensor
import Foundation

extension Autoencoder {
  /// Loads the autoencoder that `path` stands for: a diffusers VAE directory, a directory that has one in `vae/`, a model
  /// directory whose config.json names one, or a state-dict file with CompVis's or diffusers' names. A directory's weights
  /// are in one file or several, safetensors or torch's, as `DiffusersDirectory` reads a transformer's. A state dict's
  /// sizes and scaling are those of the autoencoder's config.json beside it; without one sizes are read from its shapes.
  ///
  /// - Parameters:
  ///   - path: a file or a directory.
  ///   - context: where to run; nil makes one with all processors.
  ///   - numerics: the format of the operands and the matrix-multiplication backend.
  ///   - statistics: what a model's latents are standardized by, in place of the autoencoder's own scaling; nil is that.
  /// - Throws: `DiTError`.
  public convenience init(
    contentsOf path: String, context: ComputeContext? = nil, numerics: Numerics = Numerics(),
    statistics: LatentStatistics? = nil
  ) throws {
    let context = try context ?? ComputeContext()
    let statistics = try statistics ?? Self.statistics(of: path)
    let own = try Self.directory(of: path)
    let place = own ?? path
    var notes: [String] = []
    guard try FileStatus(path: place)?.isDirectory == true else {
      let file = try StateDictFile(contentsOf: place).store
      let configuration = try Self.configuration(of: file, statistics, notes: &notes)
      try self.init(file, configuration: configuration, context: context, numerics: numerics, notes: notes)
      return
    }
    let description = Paths.join(place, ModelDirectory.configurationFile)
    guard own != nil else {
      throw DiTError(
        file: path, .entry("autoencoder"),
        expected: "a config.json of an AutoencoderKL, one in vae/, or a model's config.json with \"vae\"",
        found: "none")
    }
    let configuration = try AutoencoderConfiguration(contentsOf: description, notes: &notes)
    try self.init(
      DiffusersDirectory.weights(in: place),
      configuration: Self.scaled(configuration, by: statistics, file: description),
      context: context, numerics: numerics, notes: notes)
  }

  /// The configuration with a model's statistics in place of its own scaling.
  ///
  /// - Throws: `DiTError` where there is another number of channels.
  private static func scaled(
    _ configuration: AutoencoderConfiguration, by statistics: LatentStatistics?, file: String
  ) throws(DiTError) -> AutoencoderConfiguration {
    guard let statistics else { return configuration }
    guard statistics.mean.count == configuration.latentChannels else {
      throw DiTError(
        file: file, .key("latent_channels"),
        expected: "\(statistics.mean.count), as the model's latent_statistics say",
        found: "\(configuration.latentChannels)")
    }
    return configuration.scaled(by: statistics)
  }

  /// What the latents of the model whose directory this is are standardized by; nil for what is no model's directory, or has no
  /// such numbers.
  ///
  /// - Throws: `DiTError`, also where its family needs them.
  private static func statistics(of path: String) throws -> LatentStatistics? {
    let file = Paths.join(path, ModelDirectory.configurationFile)
    guard FileStatus.exists(file) else { return nil }
    var reader = try JSONObjectReader(contentsOf: file)
    guard reader.value("_class_name") == nil else { return nil }
    if let statistics = try LatentStatistics(reading: &reader, "latent_statistics") { return statistics }
    guard reader.value("family") == .string(ModelFamily.lightningdit.rawValue) else { return nil }
    throw DiTError(
      file: file, key: "latent_statistics",
      expected: "means and deviations, as the latents of the family lightningdit are standardized", found: "none")
  }

  /// What the config.json beside a state dict says, if it is an autoencoder's; else what its shapes tell.
  private static func configuration(
    of file: any TensorStore, _ statistics: LatentStatistics?, notes: inout [String]
  ) throws -> AutoencoderConfiguration {
    let path = Paths.join(Paths.parent(of: file.path), ModelDirectory.configurationFile)
    if FileStatus.exists(path), var reader = try? JSONObjectReader(contentsOf: path),
      reader.value("_class_name") == .string(AutoencoderConfiguration.className)
    {
      return try scaled(AutoencoderConfiguration(contentsOf: path, notes: &notes), by: statistics, file: path)
    }
    let configuration = try AutoencoderConfiguration(stateDict: file, statistics: statistics)
    guard statistics == nil else { return configuration }
    notes.append(
      "\(file.path): scaling_factor \(configuration.scalingFactor), sd-vae's, is assumed, as shapes do not tell it "
        + "(SDXL's is 0.13025); a config.json beside the file would")
    return configuration
  }

  /// The autoencoder of the latents of a model that was loaded from `directory`; nil where it has none, as a model of pixels.
  ///
  /// - Parameters:
  ///   - model: whose latents they are.
  ///   - directory: the path that the model was loaded from.
  ///   - numerics: the format of its convolutions' products.
  /// - Throws: as ``init(contentsOf:context:numerics:statistics:)``.
  public convenience init?(of model: DiT, in directory: String, numerics: Numerics = Numerics()) throws {
    guard let path = Self.directory(of: directory, named: model.configuration.autoencoder) else { return nil }
    try self.init(
      contentsOf: path, context: model.context, numerics: numerics, statistics: model.configuration.latentStatistics)
  }

  /// The autoencoder's own directory, or file, that belongs to `path`, as ``init(contentsOf:context:numerics:statistics:)``
  /// reads it; nil where `path` is not a directory, or has none.
  ///
  /// - Throws: `DiTError` for a config.json that cannot be read.
  public static func directory(of path: String) throws -> String? {
    let file = Paths.join(path, ModelDirectory.configurationFile)
    guard FileStatus.exists(file) else { return directory(of: path, named: nil) }
    var reader = try JSONObjectReader(contentsOf: file)
    if reader.value("_class_name") != nil { return path }
    return directory(of: path, named: try reader.string("vae"))
  }

  /// The same for a model whose configuration has been read, and names the autoencoder or does not.
  package static func directory(of path: String, named autoencoder: String?) -> String? {
    if let autoencoder { return Paths.resolve(autoencoder, in: path) }
    let inside = Paths.join(path, ModelDirectory.autoencoderName)
    let configuration = Paths.join(inside, ModelDirectory.configurationFile)
    return FileStatus.exists(configuration) ? inside : nil
  }
}
