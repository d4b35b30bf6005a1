import ArgumentParser
import DiTEngine

/// What `dit encode` and `dit decode` share: the autoencoder, how it computes, and the two files.
struct AutoencoderOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      The autoencoder: a diffusers VAE directory, a pipeline directory with vae/, a model directory whose config.json has \
      "vae", or a state-dict file (CompVis or diffusers names).
      """, valueName: "model"))
  var model: String

  @OptionGroup var numerics: NumericsOptions
  @OptionGroup var threads: ThreadsOption

  @Argument(help: ArgumentHelp("The file or folder to read.", valueName: "in"))
  var input: String

  @Argument(help: ArgumentHelp("The file to write.", valueName: "out"))
  var output: String

  func load() throws -> Autoencoder {
    let autoencoder = try Autoencoder(
      contentsOf: model, context: threads.context(),
      numerics: numerics.numerics(withoutInt8: "an autoencoder has no products of int8"))
    Warnings.add(notes: autoencoder.notes)
    return autoencoder
  }
}

/// Calls `body`; a tensor that it refuses is reported as one of the file at `path`.
func attributingErrors<Result>(to path: String, for body: () throws -> Result) throws -> Result {
  do {
    return try body()
  } catch let error as DiTError {
    throw error.attributed(to: path)
  }
}
