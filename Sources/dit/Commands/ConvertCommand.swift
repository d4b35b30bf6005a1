import ArgumentParser
import DiTEngine

/// `dit convert`: a model from one format to another.
struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract:
      "Convert a model: state dict, model directory, diffusers directory, JiT's and SiT's checkpoints; fp32, bf16 or int8.",
    discussion: """
      IN is any model with weights; OUT is the directory or file to create:
        dit        a model directory: config.json and model.safetensors
        diffusers  model_index.json, transformer/, scheduler/, and vae/ where the
                   model has an autoencoder, as diffusers' DiTPipeline loads them
        jit        checkpoint-last.pth, as JiT's trainer writes it (model, model_ema1,
                   model_ema2, args) and its code loads it: main_jit.py --resume OUT
        sit        a file as SiT's trainer writes it (model, ema, args) and its code
                   loads it: sample.py SDE --ckpt OUT

        dit convert DiT-XL-2-256x256.pt models/xl
        dit convert facebook-dit models/xl --dtype bf16
        dit convert models/xl models/xl-int8 --dtype int8
        dit convert runs/mine mine-diffusers --to diffusers
        dit convert runs/jit mine-jit --to jit
        dit convert JiT-B-16 models/jit --weights all
        dit convert runs/sit mine.pt --to sit

      One set of weights is written, a moving average where there is one, or what
      --weights names. --weights all writes the trained weights and their averages; to jit
      and sit that is the default, and a set that the model does not have is another
      one's.

      OUT computes the same as IN, bit for bit in fp32: of a diffusers directory its
      numerics and its scheduler are kept in config.json. A setting that diffusers
      cannot express is refused by name, and so is a position table that is not the
      computed one, as diffusers stores none. One thing diffusers computes differently:
      its time frequencies divide by 127, those of the published DiT and of models
      trained here by 128. Such a model is written as it is, and a note gives the
      measured difference between diffusers' output and the model's.
      """)

  @Argument(help: ArgumentHelp("The model to read.", valueName: "in"))
  var input: String

  @Argument(
    help: ArgumentHelp("The directory to write; it must not exist, or be empty. To sit a file.", valueName: "out"))
  var output: String

  @Option(help: ArgumentHelp("Output format.", valueName: "format"))
  var to: ModelConversion.Format = .dit

  @Option(
    help: ArgumentHelp(
      """
      Storage format of the weights: fp32, bf16, or int8, of a model directory: 8-bit integers with a scale for each output in \
      the blocks' linear layers, but for those that alone make more than a tenth of the output's square error, which is \
      measured at eight times; bf16 or fp32 elsewhere. For `--precision int8`.
      """, valueName: "format"))
  var dtype: StoredFormat = .fp32

  @Flag(help: "Replace an existing model directory and everything in it, or a file.")
  var force = false

  @OptionGroup var weights: WeightsOption
  @OptionGroup var hints: HintOptions
  @OptionGroup var threads: ThreadsOption

  /// What `--dtype` may be.
  enum StoredFormat: String, CaseIterable, ExpressibleByArgument {
    case fp32, bf16, int8

    var dtype: Dtype {
      switch self {
      case .fp32: .f32
      case .bf16: .bf16
      case .int8: .i8
      }
    }
  }

  /// Nil is all weights.
  private var choice: WeightChoice? {
    if weights.weights == .named("all") { return nil }
    return weights.weights ?? (to.hasAllWeights ? nil : .emaPreferred)
  }

  func run() throws {
    do throws(DiTError) {
      try ModelConversion.checkTarget(output, as: to, replacing: force)
    } catch {
      throw Failure(.usage, "\(error)")
    }
    let conversion = try hints.attributingErrors {
      try ModelConversion(
        ShippedResources.model(input), to: to, weights: choice, hints: hints.hints(), context: threads.context())
    }
    guard dtype != .int8 || to == .dit else {
      throw Failure.usage("--dtype", expected: "fp32 or bf16 with --to \(to.rawValue)", found: "int8")
    }
    let notes: [String]
    do {
      notes = try conversion.write(to: output, as: dtype.dtype, replacing: force) { measured, count in
        if measured % 16 == 0 || measured == count {
          StandardError.write("int8: \(measured) of \(count) blocks and layers measured\n")
        }
      }
    } catch {
      throw Failure(.failure, "\(error)")
    }
    for note in notes { StandardError.write("Note: \(note)\n") }
    try StandardOutput.write(output)
    Warnings.write(for: conversion.configuration)
  }
}

extension ModelConversion.Format: ExpressibleByArgument {}
