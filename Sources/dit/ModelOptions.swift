import ArgumentParser
import DiffusionTransformers

/// `--model`, `--heads`, `--threads`: what computes, and on how many processors.
struct ModelOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The model: a directory with config.json, or a .safetensors state dict. (default: the digits model)",
      valueName: "model"))
  var model: String?

  @OptionGroup var heads: HeadsOption
  @OptionGroup var threads: ThreadsOption

  /// The model with its weights.
  func load() throws -> DiT {
    let context = try threads.context()
    return try heads.blamed {
      try DiT(contentsOf: model ?? ShippedResources.digitsModel(), context: context, heads: heads.heads)
    }
  }
}

/// `--heads`, for state dicts.
struct HeadsOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Attention heads of a state dict, where its shapes cannot tell; for any other model it must agree. (default: those \
      of the published hidden sizes)
      """, valueName: "n"))
  var heads: Int?

  /// The configuration of a model of which nothing else is needed.
  func configuration(of model: String?) throws -> ModelConfiguration {
    try blamed { try ModelReference(model ?? ShippedResources.digitsModel()).configuration(heads: heads) }
  }

  /// Runs `body`, which reads a model: heads that it refuses are the command line's fault when that gave them.
  func blamed<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as ModelFileError where heads != nil && ["heads", "num_heads"].contains(error.item) {
      throw Failure.usage("--heads", expected: "a number of heads that fits the model", found: "\(error)")
    }
  }
}

/// `--threads`.
struct ThreadsOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Threads to compute with, 1 to 1024; the result is the same for any number. (default: all processors)",
      valueName: "n"))
  var threads: Int?

  func context() throws -> ComputeContext { try ComputeContext(threads: threads) }
}
