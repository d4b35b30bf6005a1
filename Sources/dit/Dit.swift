import ArgumentParser
import DiTEngine
import Foundation

/// `dit`: parses, calls the library, prints.
@main
struct Dit: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dit",
    abstract: "Train and sample Diffusion Transformers (DiT) on CPUs.",
    discussion: """
      A first picture, from the small model of digits that ships with the tool:

        dit sample --classes 0-9 --out digits.png

      and from the one of clothes that was trained on Fashion-MNIST:

        dit sample --model fashion --classes sneaker,coat --out clothes.png

      Wherever a command takes a model, it may be
        a directory with config.json and model.safetensors, as `dit train` writes;
        a diffusers directory, of a DiT pipeline or its transformer;
        a .safetensors or .pt file: a state dict, or a training checkpoint of DiT,
        SiT, REPA, LightningDiT, JiT or pMF;
        a published name, DiT-S/2 to DiT-XL/8 over latents, DiT-Base/8 to
        DiT-Large/32 over 256² pixels, where no weights are needed;
        digits (the default) or fashion: the models that ship with the tool.

      Results go to stdout; errors, warnings and progress to stderr. Output files
      are written atomically. Exit status:
          0  success
         64  wrong command line, or a value that the model cannot take
         65  an input is missing, unreadable, malformed or does not fit
        130  interrupted; finished results are saved
          1  any other failure, such as an output that cannot be written
      """,
    subcommands: [
      SampleCommand.self, TrainCommand.self, InfoCommand.self, ScheduleCommand.self, ForwardCommand.self,
      LossCommand.self, InvertCommand.self, EncodeCommand.self, DecodeCommand.self, EvaluateCommand.self,
      ConvertCommand.self, MPIInfoCommand.self,
    ])

  /// The command line's words, whatever bytes they are: a path need not be UTF-8.
  private static var arguments: [String] {
    (1..<max(1, Int(CommandLine.argc))).compactMap { index in
      unsafe CommandLine.unsafeArgv[index].map { unsafe FileName.string(terminated: $0) }
    }
  }

  static func main() {
    StandardStream.reserve()
    StandardStream.refuseSizesByError()
    BLASReport.restartIfNarrowed()
    do {
      var command = try parseAsRoot(NegativeValues.joined(arguments))
      try command.run()
    } catch {
      if let failure = Failure(error) { failure.exit() }
      end(with: error)
    }
  }

  /// The parser's own: usage, help, completion scripts.
  private static func end(with error: any Error) -> Never {
    let (text, status) = (fullMessage(for: error), exitCode(for: error))
    guard status.isSuccess else {
      StandardError.write(text + "\n")
      Foundation.exit(status.rawValue)
    }
    do {
      try StandardOutput.write(text)
    } catch {
      error.exit()
    }
    Foundation.exit(status.rawValue)
  }
}
