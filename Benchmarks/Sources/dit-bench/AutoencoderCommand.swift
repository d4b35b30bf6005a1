import ArgumentParser
import DiTEngine
import Foundation

/// `dit-bench autoencoder`: an autoencoder as a worker for Benchmarks/peers/autoencoder.py.
struct AutoencoderCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "autoencoder",
    abstract: "Decode latents when told to: for Benchmarks/peers/autoencoder.py.",
    discussion: """
      For each line on stdin decodes the input once and answers with one JSON object:
      seconds, peak_rss_bytes, scratch_bytes. The first call packs the weights. A line
      that is a path also writes the images there.
      """)

  @Option(help: "A directory with an AutoencoderKL.")
  var model: String

  @Option(help: "A safetensors file with latents.")
  var latents: String

  @Option(help: "fp32 or bf16.")
  var precision = "fp32"

  @Option(help: "blas, packed or auto.")
  var gemm = "auto"

  @OptionGroup var options: ContextOptions

  func run() throws {
    guard let precision = Precision(rawValue: precision), let gemm = GEMM(rawValue: gemm) else {
      throw ValidationError("--precision is fp32 or bf16, --gemm blas, packed or auto")
    }
    let autoencoder = try Autoencoder(
      contentsOf: model, context: options.makeContext(), numerics: Numerics(precision: precision, gemm: gemm))
    let input = try SafetensorsFile(contentsOf: latents).tensor("latents")
    let scratch = autoencoder.decodingMemory(latentHeight: input.shape[2], latentWidth: input.shape[3])
    while let line = readLine() {
      let start = ContinuousClock.now
      let images = try autoencoder.decode(input)
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      if !line.isEmpty { try SafetensorsWriter.write([TensorSource("images", images)], to: line) }
      let peak = try MemoryUse.current().peak
      let answer = #"{"seconds": \#(seconds), "peak_rss_bytes": \#(peak), "scratch_bytes": \#(scratch)}"#
      FileHandle.standardOutput.write(Data((answer + "\n").utf8))
    }
  }
}
