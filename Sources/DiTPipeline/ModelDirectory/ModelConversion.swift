import DiTAutoencoder
import DiTDiffusers
import DiTFiles
import DiTKernels
import DiTModel
import DiTTensor
import Foundation

/// A model read from one kind of place, to be written to another: model directory, diffusers directory, state dict.
///
/// One set of weights is taken, or all that the model has. A directory that is written appears complete or not at all. What is
/// written computes what the model computed, but for rounding to bf16 where that is asked for and for what ``notes`` say.
public struct ModelConversion: Sendable {
  /// What is written.
  public enum Format: String, CaseIterable, Sendable {
    /// A model directory.
    case dit
    /// A diffusers pipeline.
    case diffusers
    /// The folder of JiT's trainer.
    case jit
    /// A checkpoint of SiT's trainer, a file.
    case sit

    /// Whether all sets of weights are written where none is named.
    public var hasAllWeights: Bool { [.jit, .sit].contains(self) }
  }

  public let configuration: ModelConfiguration
  /// What the configuration assumes of a state dict that does not tell it, one line each, for the user.
  public let notes: [String]
  private let sets: WeightSets
  private let export: DiffusersExport?
  private let checkpoint: JiTCheckpoint?
  private let file: SiTCheckpoint?
  private let vae: String?
  private let context: ComputeContext?

  /// Reads the model that `source` stands for.
  ///
  /// - Parameters:
  ///   - source: a file or a directory.
  ///   - format: what is written.
  ///   - choice: which weights of a directory or a training checkpoint; they become model.safetensors. Nil is all of them, for
  ///     `dit`, `jit` and `sit`: the trained ones and their averages.
  ///   - hints: what a state dict's shapes cannot tell.
  ///   - context: where what must be measured is run; nil makes one with all processors.
  /// - Throws: as ``ModelReference/load(_:hints:)``, and `DiTError` for a published name, which has no weights, and
  ///   for what diffusers, JiT's or SiT's code cannot express.
  public init(
    _ source: String, to format: Format, weights choice: WeightChoice? = .emaPreferred,
    hints: StateDictHints = StateDictHints(),
    context: ComputeContext? = nil
  ) throws {
    let reference = try ModelReference(source)
    guard choice != nil || format != .diffusers else {
      throw DiTError(
        file: source, .argument("weights"), expected: "one set, as a diffusers directory has one", found: "all")
    }
    let model = try choice.map { try reference.load($0, hints: hints) } ?? reference.described(hints: hints)
    let configuration = model.configuration
    let sets = try choice == nil ? WeightSets(reference, hints: hints) : WeightSets(trained: model.weights)
    guard let weights = sets.average ?? sets.trained else {
      if case .directory(let path) = reference {
        throw DiTError(file: Paths.join(path, ModelDirectory.modelFile), .missing)
      }
      throw DiTError(
        file: source, .argument("weights"), expected: "a model with weights", found: "a published name")
    }
    var converted = configuration
    vae = try configuration.autoencoderDirectory(in: source)
    if let vae, format == .diffusers, try FileStatus(path: vae)?.isRegular == true {
      throw DiTError(
        file: source, .entry("vae"), expected: "a directory as diffusers writes it, for a diffusers directory",
        found: "a file")
    }
    if format == .diffusers || format == .sit, configuration.latentStatistics != nil {
      throw DiTError(
        file: source, .key("latent_statistics"),
        expected: "none, as \(format == .sit ? "SiT's code" : "diffusers' DiTPipeline") "
          + "decodes by the autoencoder's own scaling", found: "means and deviations")
    }
    if vae != nil { converted.autoencoder = ModelDirectory.autoencoderName }
    self.configuration = converted
    self.sets = sets
    file = format == .sit ? try SiTCheckpoint(configuration, sets, name: source) : nil
    checkpoint = format == .jit ? try JiTCheckpoint(configuration, sets, name: source) : nil
    export =
      format == .diffusers ? try DiffusersExport(configuration, weights: weights, vae: vae, name: source) : nil
    notes =
      model.notes + sets.notes + (format == .diffusers ? Self.autoencoderNotes(vae) : []) + (checkpoint?.notes ?? [])
      + (file?.notes ?? [])
    self.context = context
  }

  /// What diffusers' DiTPipeline does with the autoencoder in `directory` that its other pipelines do not.
  private static func autoencoderNotes(_ directory: String?) -> [String] {
    let file = directory.map { Paths.join($0, ModelDirectory.configurationFile) }
    // One that cannot be read is copied all the same.
    guard let file, let vae = try? AutoencoderConfiguration(contentsOf: file) else { return [] }
    guard let keys = vae.keysOutsideDiTPipeline else { return [] }
    return ["vae: diffusers' DiTPipeline decodes without \(keys), so that its pictures are not this model's"]
  }

  /// Writes the directory, or the file, at `path`.
  ///
  /// - Parameters:
  ///   - path: the directory or the file.
  ///   - dtype: F32, BF16 or F16; or I8, for a model directory: the weights of the blocks' linear layers in int8, but for those
  ///     that an ``Int8Plan`` leaves in BF16, which is measured.
  ///   - replacing: whether a directory with a model that is there may be replaced, with all that is in it.
  ///   - progress: called while an ``Int8Plan`` is measured.
  /// - Returns: notes for the user, one line each; what they measure was measured on the files that were written, an ``Int8Plan``
  ///   on the weights that they were made of.
  /// - Throws: `DiTError`, also when a training run writes there, or something has appeared there that may not be
  ///   replaced; when there was something of the kind before.
  @discardableResult
  public func write(
    to path: String, as dtype: Dtype = .f32, replacing: Bool = false,
    progress: (_ measured: Int, _ of: Int) -> Void = { _, _ in }
  ) throws -> [String] {
    guard dtype != .i8 || (file == nil && checkpoint == nil && export == nil) else {
      throw DiTError(option: "dtype", expected: "fp32 or bf16, but for a model directory", found: "int8")
    }
    if let file {
      try Self.checkFile(path, replacing: replacing)
      try file.write(to: path, as: dtype)
      return notes
    }
    try Self.checkTarget(path, replacing: replacing)
    let claim = replacing ? try RunClaim(path) : nil
    defer { _ = claim }
    let directory = try AtomicDirectory(path: path)
    let temporary = directory.temporary
    var notes = notes
    let plan = dtype == .i8 ? try int8Plan(progress) : nil
    if let plan { notes += plan.notes }
    try directory.writing {
      if let export {
        try export.write(to: temporary, as: dtype)
        let written = try DiffusersDirectory(contentsOf: temporary).weights()
        notes += try export.notes(written: written, context: context ?? ComputeContext())
      } else if let checkpoint {
        try checkpoint.write(to: temporary, as: dtype)
      } else {
        try writeModel(to: temporary, as: dtype, plan)
        if let vae { try Directory.copyFiles(of: vae, to: Paths.join(temporary, ModelDirectory.autoencoderName)) }
      }
    }
    try directory.commit(replacing: replacing)
    return notes
  }

  private func int8Plan(_ progress: (Int, Int) -> Void) throws -> Int8Plan {
    guard let weights = sets.average ?? sets.trained else { preconditionFailure("checked when it was read") }
    return try Int8Plan(configuration, weights, context: context ?? ComputeContext(), progress: progress)
  }

  private func writeModel(to path: String, as dtype: Dtype, _ plan: Int8Plan?) throws {
    guard let plan else {
      try ModelDirectory.write(
        configuration, model: sets.trained, ema: sets.average, furtherAverages: sets.further, as: dtype, to: path)
      return
    }
    let context = try context ?? ComputeContext()
    try ModelDirectory.write(
      configuration, model: sets.trained.map { weights in { weights } },
      ema: sets.average.map { weights in { weights } },
      furtherAverages: sets.further.map { average in (decay: average.decay, weights: { average.weights }) }, to: path
    ) { weights, path in try weights.stage(for: path, plan, context: context) }
  }

  /// Throws unless a format may be written to `path`.
  ///
  /// - Throws: `DiTError`.
  public static func checkTarget(_ path: String, as format: Format, replacing: Bool) throws(DiTError) {
    if format == .sit { try checkFile(path, replacing: replacing) } else { try checkTarget(path, replacing: replacing) }
  }

  /// Throws unless a file may be written to `path`: there is nothing, or a file that may be replaced.
  private static func checkFile(_ path: String, replacing: Bool) throws(DiTError) {
    guard FileStatus.exists(path) else { return }
    let isDirectory = FileStatus.exists(Paths.join(path, "."))
    guard isDirectory || !replacing else { return }
    throw DiTError(
      file: path, .entry("output"), expected: replacing ? "a file to replace" : "no file of that name",
      found: isDirectory ? "a directory" : "a file")
  }

  /// Throws unless a model may be written to `path`: there is nothing, an empty directory or, if it may be replaced, one
  /// with a model in it.
  ///
  /// - Throws: `DiTError`.
  public static func checkTarget(_ path: String, replacing: Bool) throws(DiTError) {
    let names = try Directory.names(path)
    guard !names.isEmpty else { return }
    let isModel = !names.filter {
      [ModelDirectory.configurationFile, DiffusersDirectory.indexFile, ModelReference.trainersCheckpoint].contains($0)
    }.isEmpty
    guard replacing, isModel else {
      throw DiTError(
        file: path, .entry("output"),
        expected: replacing ? "a directory with a model to replace" : "no directory, or an empty one",
        found: "a directory with \(names.count == 1 ? "a file" : "\(names.count) files")")
    }
  }
}
