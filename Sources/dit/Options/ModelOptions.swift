import ArgumentParser
import DiffusionTransformers

/// `--model`, `--weights`, `--heads`, `--precision`, `--gemm`, `--threads`: the model and how it is computed.
struct ModelOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The model: a model directory, a diffusers directory, or a .safetensors or .pt state dict. (default: the digits model)",
      valueName: "model"))
  var model: String?

  @OptionGroup var weights: WeightsOption
  @OptionGroup var heads: HeadsOption
  @OptionGroup var numerics: NumericsOptions
  @OptionGroup var threads: ThreadsOption

  /// The model with its weights.
  func load() throws -> DiT {
    let numerics = try numerics.numerics()
    let context = try threads.context()
    let dit = try heads.attributingErrors {
      try DiT(
        contentsOf: model ?? ShippedResources.digitsModel(), context: context,
        weights: weights.weights ?? .emaPreferred,
        heads: heads.heads, numerics: numerics)
    }
    Warnings.add(notes: dit.notes)
    return dit
  }

  /// The autoencoder of the model's latents; nil where it has none.
  func autoencoder(for dit: DiT) throws -> Autoencoder? {
    guard let model, let directory = Autoencoder.directory(of: model, named: dit.configuration.autoencoder) else {
      return nil
    }
    let autoencoder = try Autoencoder(contentsOf: directory, context: dit.context, numerics: numerics.numerics())
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

/// `--weights`.
struct WeightsOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Weights of a directory or a training checkpoint: ema, model, or auto, ema where there is one. (default: auto)",
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

  /// The configuration of a model, without its weights.
  func configuration(of model: String?) throws -> ModelConfiguration {
    try attributingErrors {
      let reference = try ModelReference(model ?? ShippedResources.digitsModel())
      let configuration = try reference.configuration(heads: heads)
      Warnings.add(notes: try reference.notes(heads: heads))
      return configuration
    }
  }

  /// Runs `body`, which reads a model: heads that it refuses are reported as `--heads` where that option was given.
  func attributingErrors<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as ModelFileError where heads != nil && ["heads", "num_heads"].contains(error.item) {
      throw Failure.usage("--heads", expected: "a number of heads that fits the model", found: "\(error)")
    }
  }
}

/// `--precision` and `--gemm`.
struct NumericsOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      fp32, or bf16: matrix products of the blocks with bfloat16 operands and float32 accumulation, in half the memory \
      and, on a CPU with native bf16 products (see `dit info`), half the time. (default: fp32)
      """, valueName: "format"))
  var precision: String?

  @Option(
    help: ArgumentHelp(
      """
      Matrix-multiplication backend: blas (OpenBLAS; fp32 only), packed (built-in kernels over packed weights) or auto, \
      the faster one on this CPU. (default: auto)
      """, valueName: "name"))
  var gemm: String?

  /// - Throws: ``Failure`` for an unknown word, or a combination that does not exist.
  func numerics(defaults: Numerics = Numerics()) throws(Failure) -> Numerics {
    var numerics = defaults
    if let precision {
      let note = precision == "fp16" ? " (CPUs have no products of fp16; bf16 needs no loss scaling)" : ""
      guard let value = Precision(rawValue: precision) else {
        throw .usage("--precision", expected: "fp32 or bf16" + note, found: precision)
      }
      numerics.precision = value
    }
    if let gemm {
      guard let value = GEMM(rawValue: gemm) else {
        throw .usage("--gemm", expected: "blas, packed or auto", found: gemm)
      }
      numerics.gemm = value
    }
    guard numerics.isSupported else {
      throw .usage("--gemm", expected: "packed or auto with bf16, of which OpenBLAS has no products", found: "blas")
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
