import ArgumentParser
import DiTEngine

/// `--model`, `--weights`, `--heads`, `--config`, `--precision`, `--gemm`, `--threads`: the model and how it is computed.
struct ModelOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      The model: a model directory, a diffusers directory, a .safetensors or .pt state dict, or digits or fashion, which ship \
      with the tool. (default: digits)
      """,
      valueName: "model"))
  var model: String?

  @OptionGroup var weights: WeightsOption
  @OptionGroup var hints: HintOptions
  @OptionGroup var numerics: NumericsOptions
  @OptionGroup var threads: ThreadsOption

  /// The model with its weights.
  ///
  /// - Parameters:
  ///   - context: where it computes; nil makes one as `--threads` says.
  ///   - numerics: what it computes in where the command line says nothing.
  func load(on context: ComputeContext? = nil, defaults numerics: Numerics = Numerics()) throws -> DiT {
    let numerics = try self.numerics.numerics(defaults: numerics)
    let context = try context ?? threads.context()
    let dit = try hints.attributingErrors {
      let hints = try hints.hints()
      return try DiT(
        contentsOf: ShippedResources.model(model), context: context,
        weights: weights.weights ?? .emaPreferred,
        heads: hints.heads, family: hints.family, keys: hints.keys, numerics: numerics)
    }
    Warnings.add(notes: dit.notes)
    return dit
  }

  /// The autoencoder of the model's latents; nil where it has none.
  ///
  /// - Parameters:
  ///   - isNeeded: whether pictures are to be made; where they are not, one that cannot be used is passed over.
  ///   - numerics: what it computes in where the command line says nothing.
  func autoencoder(
    for dit: DiT, isNeeded: Bool = true, defaults numerics: Numerics = Numerics()
  ) throws -> Autoencoder? {
    guard let model = try model.map(ShippedResources.model),
      let directory = Autoencoder.directory(of: model, named: dit.configuration.autoencoder)
    else { return nil }
    let statistics = dit.configuration.latentStatistics
    if dit.configuration.family == .lightningdit, statistics == nil {
      guard isNeeded else { return nil }
      throw Failure.input(
        model, "latent_statistics",
        expected: "means and deviations of the latents (--config FILE, or its config.json), as LightningDiT's are "
          + "standardized; without them there are no pictures, only .safetensors", found: "none")
    }
    let autoencoder = try Autoencoder(
      contentsOf: directory, context: dit.context, numerics: self.numerics.numerics(defaults: numerics),
      statistics: statistics)
    let (found, expected) = (autoencoder.configuration.latentChannels, dit.configuration.network.inChannels)
    guard found == expected else {
      throw Failure.input(
        directory, "latent_channels", expected: "\(expected), as the model's in_channels", found: "\(found)")
    }
    Warnings.add(notes: autoencoder.notes)
    if case .diffusers = try ModelReference(model), let keys = autoencoder.configuration.keysOutsideDiTPipeline {
      Warnings.add(notes: ["\(directory): pictures heed \(keys); diffusers' DiTPipeline does not"])
    }
    return autoencoder
  }
}

extension WeightChoice: ExpressibleByArgument {}
extension ModelFamily: ExpressibleByArgument {}

/// `--weights`.
struct WeightsOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Weights of a directory or a training checkpoint: ema, model, auto (ema where there is one), or the name that they \
      have there, such as model_ema2. (default: auto)
      """,
      valueName: "name"))
  var weights: WeightChoice?
}

/// `--heads`, for state dicts.
struct HeadsOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Number of attention heads of a state dict, which its shapes do not always tell; for any other model it must agree. \
      (default: that of the published hidden sizes)
      """, valueName: "n"))
  var heads: Int?

  /// Runs `body`, which reads a model: heads that it refuses are reported as `--heads` where that option was given.
  func attributingErrors<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as DiTError
      where heads != nil && error.kind == .content && ["heads", "num_heads"].contains(error.name)
    {
      throw Failure.usage("--heads", expected: "a number of heads that fits the model", found: "\(error)")
    }
  }
}

/// `--heads` and `--config`: what the shapes of a state dict do not tell.
struct HintOptions: ParsableArguments {
  @OptionGroup var heads: HeadsOption

  @Option(
    help: ArgumentHelp(
      """
      Of a state dict, what its shapes do not tell or is not as published: a JSON file with keys of config.json, bare or \
      under "model", such as {"num_classes": 10, "input_size": [16, 64]}.
      """, valueName: "file"))
  var config: String?

  @Option(
    help: ArgumentHelp(
      "The model's family: dit, sit, repa, lightningdit, jit or pmf. (default: what a state dict's names or the model's config.json say)",
      valueName: "name"))
  var family: ModelFamily?

  func hints() throws -> StateDictHints {
    StateDictHints(heads: heads.heads, family: family, keys: try config.map { try ModelKeys(contentsOf: $0) })
  }

  /// The configuration of a model, without its weights.
  func configuration(of model: String?) throws -> ModelConfiguration {
    try described(ShippedResources.model(model)).configuration
  }

  /// The same with what was told how.
  func described(_ model: String) throws -> LoadedModel {
    try attributingErrors {
      let described = try ModelReference(model).described(hints: hints())
      Warnings.add(notes: described.notes)
      return described
    }
  }

  /// Runs `body`, which reads a model: options that it refuses are reported as such.
  func attributingErrors<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try heads.attributingErrors(body)
    } catch let error as DiTError where config != nil && error.kind == .content && error.file == config {
      throw Failure.usage("--config", expected: "none, or a state dict as the model", found: "\(error)")
    }
  }
}

/// `--precision` and `--gemm`.
struct NumericsOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      fp32; bf16: matrix products of the blocks with bfloat16 operands and float32 accumulation, in half the memory and, \
      on a CPU with native bf16 products (see `dit info`), half the time; or int8, not for training: those of the blocks' \
      linear layers with 8-bit integers, in half of bf16's memory in the blocks and, with native int8 products, in \
      0.54 to 0.65 of its time (at 256 tokens). (default: fp32)
      """, valueName: "format"))
  var precision: String?

  @Option(
    help: ArgumentHelp(
      """
      Matrix-multiplication backend: blas (OpenBLAS; fp32 only), packed (built-in kernels over packed weights) or auto, \
      the faster one on this CPU. (default: auto)
      """, valueName: "name"))
  var gemm: String?

  /// - Parameter withoutInt8: why the command has no products of int8, where it has none.
  /// - Throws: ``Failure`` for an unknown word, or a combination that does not exist.
  func numerics(defaults: Numerics = Numerics(), withoutInt8 reason: String? = nil) throws(Failure) -> Numerics {
    var numerics = defaults
    if let precision {
      let note = precision == "fp16" ? " (CPUs have no products of fp16; bf16 needs no loss scaling)" : ""
      let words = reason == nil ? "fp32, bf16 or int8" : "fp32 or bf16"
      guard let value = Precision(rawValue: precision) else {
        throw .usage("--precision", expected: words + note, found: precision)
      }
      if let reason, value == .int8 { throw .usage("--precision", expected: "\(words) (\(reason))", found: precision) }
      numerics.precision = value
    }
    if let gemm {
      guard let value = GEMM(rawValue: gemm) else {
        throw .usage("--gemm", expected: "blas, packed or auto", found: gemm)
      }
      numerics.gemm = value
    }
    guard numerics.isSupported else {
      throw .usage(
        "--gemm", expected: "packed or auto with bf16 and int8, of which OpenBLAS has no products", found: "blas")
    }
    return numerics
  }
}

/// `--threads`.
struct ThreadsOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Number of threads, 1 to 1024; results do not depend on it. (default: OMP_NUM_THREADS, else the processors that \
      affinity and control groups leave)
      """,
      valueName: "n"))
  var threads: Int?

  func context() throws -> ComputeContext { try ComputeContext(threads: threads) }
}
