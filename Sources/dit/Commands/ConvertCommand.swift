import ArgumentParser
import DiffusionTransformers

/// `dit convert`: a model from one kind of place to another.
struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Convert a model: state dict, model directory, diffusers directory; fp32 or bf16.",
    discussion: """
      IN is any model with weights; OUT is a directory that is made:
        dit        a model directory: config.json and model.safetensors
        diffusers  model_index.json, transformer/, scheduler/, and vae/ where the
                   model has an autoencoder, as diffusers' DiTPipeline loads them

        dit convert DiT-XL-2-256x256.pt models/xl
        dit convert facebook-dit models/xl --dtype bf16
        dit convert runs/mine mine-diffusers --to diffusers

      What is written computes what IN computes, bit for bit in fp32: a directory of
      diffusers keeps its numerics and its scheduler in config.json. diffusers cannot
      express everything: what it has no key for is refused by name. One thing it
      computes differently: its time frequencies divide by 127, those of the
      published DiT and of models trained here by 128. Such a model is written as it
      is, and a note says how far diffusers' output is then from the model's, which
      is measured.
      """)

  @Argument(help: ArgumentHelp("The model to read.", valueName: "in"))
  var input: String

  @Argument(help: ArgumentHelp("The directory to write; it must not be there, or be empty.", valueName: "out"))
  var output: String

  @Option(help: ArgumentHelp("What to write.", valueName: "format"))
  var to: ModelConversion.Format = .dit

  @Option(help: ArgumentHelp("How weights are stored.", valueName: "format"))
  var dtype: StoredFormat = .fp32

  @Flag(help: "Replace a directory with a model that is there already, with all that is in it.")
  var force = false

  @OptionGroup var weights: WeightsOption
  @OptionGroup var heads: HeadsOption
  @OptionGroup var threads: ThreadsOption

  /// What `--dtype` may be.
  enum StoredFormat: String, CaseIterable, ExpressibleByArgument {
    case fp32, bf16

    var dtype: Dtype { self == .fp32 ? .f32 : .bf16 }
  }

  func run() throws {
    do throws(ModelFileError) {
      try ModelConversion.checkTarget(output, replacing: force)
    } catch {
      throw Failure(.usage, "\(error)")
    }
    let conversion = try heads.attributingErrors {
      try ModelConversion(
        input, to: to, weights: weights.weights ?? .emaPreferred, heads: heads.heads, context: threads.context())
    }
    do {
      try conversion.write(to: output, as: dtype.dtype, replacing: force)
    } catch {
      throw Failure(.failure, "\(error)")
    }
    for note in conversion.notes { StandardError.write("Note: \(note)\n") }
    print(output)
    Warnings.write()
  }
}

extension ModelConversion.Format: ExpressibleByArgument {}
