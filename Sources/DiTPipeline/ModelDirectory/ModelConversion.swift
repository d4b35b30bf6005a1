import DiTDiffusers
import DiTFiles
import DiTKernels
import DiTModel
import Foundation

/// A model read from one kind of place, to be written to another: model directory, diffusers directory, state dict.
///
/// One set of weights is taken. A directory that is written appears complete or not at all. What is written computes what
/// the model computed, but for rounding to bf16 where that is asked for and for what ``notes`` say.
public struct ModelConversion: Sendable {
  /// What is written.
  public enum Format: String, CaseIterable, Sendable {
    /// A model directory.
    case dit
    /// A diffusers pipeline.
    case diffusers
  }

  public let configuration: ModelConfiguration
  /// Notes for the user, one line each.
  public let notes: [String]
  private let weights: Weights
  private let export: DiffusersExport?
  private let vae: String?

  /// Reads the model that `source` stands for.
  ///
  /// - Parameters:
  ///   - choice: which weights of a directory or a training checkpoint; they become model.safetensors.
  ///   - heads: the number of heads where a state dict's shapes cannot tell.
  ///   - context: where what must be measured is run; nil makes one with all processors.
  /// - Throws: as ``ModelReference/load(_:heads:)``, and ``ModelFileError`` for a published name, which has no weights, and
  ///   for what diffusers cannot express.
  public init(
    _ source: String, to format: Format, weights choice: WeightChoice = .emaPreferred, heads: Int? = nil,
    context: ComputeContext? = nil
  ) throws {
    let reference = try ModelReference(source)
    let (configuration, loaded) = try reference.load(choice, heads: heads)
    guard let weights = loaded else {
      throw ModelFileError(
        file: source, item: "weights", expected: "a model with weights", found: "a published name")
    }
    var converted = configuration
    vae = try configuration.autoencoderDirectory(in: source)
    if vae != nil { converted.autoencoder = ModelDirectory.autoencoderName }
    self.configuration = converted
    self.weights = weights
    export =
      format == .diffusers ? try DiffusersExport(configuration, weights: weights, vae: vae, name: source) : nil
    notes = try export?.notes(context: context ?? ComputeContext()) ?? []
  }

  /// Writes the directory at `path`.
  ///
  /// - Parameters:
  ///   - dtype: F32, BF16 or F16.
  ///   - replacing: whether a directory with a model that is there may be replaced, with all that is in it.
  /// - Throws: `FileError`, also when a training run writes there, or something has appeared there that may not be replaced;
  ///   ``ModelFileError`` when there was something of the kind before.
  public func write(to path: String, as dtype: Dtype = .f32, replacing: Bool = false) throws {
    try Self.checkTarget(path, replacing: replacing)
    let claim = replacing ? try RunClaim(path) : nil
    defer { _ = claim }
    let directory = try AtomicDirectory(path: path)
    let temporary = directory.temporary
    try directory.writing {
      if let export {
        try export.write(to: temporary, as: dtype)
      } else {
        try ModelDirectory.write(configuration, model: weights, ema: nil, as: dtype, to: temporary)
        if let vae { try Directory.copyFiles(of: vae, to: Paths.join(temporary, ModelDirectory.autoencoderName)) }
      }
    }
    try directory.commit(replacing: replacing)
  }

  /// Throws unless a model may be written to `path`: there is nothing, an empty directory or, if it may be replaced, one
  /// with a model in it.
  ///
  /// - Throws: ``ModelFileError``.
  public static func checkTarget(_ path: String, replacing: Bool) throws(ModelFileError) {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    guard !names.isEmpty else { return }
    let isModel = names.contains(ModelDirectory.configurationFile) || names.contains(DiffusersDirectory.indexFile)
    guard replacing, isModel else {
      throw ModelFileError(
        file: path, item: "output",
        expected: replacing ? "a directory with a model to replace" : "no directory, or an empty one",
        found: "a directory with \(names.count == 1 ? "a file" : "\(names.count) files")")
    }
  }
}
