import DiTAutoencoder
import DiTFiles
import DiTKernels
import DiTPipeline
import DiTTensor
import Foundation
import TestSupport
import Testing

// Against diffusers' AutoencoderKL in Double.

@Suite("Encoding and decoding against diffusers' AutoencoderKL") struct OracleTests {
  /// The promise is 1e-4. Float32 through some thirty layers is out by 1e-6, Winograd's transforms a few times that.
  static let float32 = 2e-5
  /// bf16 products of both operands' roundings, 2⁻⁹ each, through as many layers.
  static let bf16 = 0.08

  @Test(
    "Encoder and decoder agree with diffusers in Double: 2e-5 in Float32, 0.08 in bf16",
    arguments: InstructionSet.runnable, Case.names)
  func agreesWithDiffusers(level: InstructionSet, name: String)
    throws
  {
    let fixture = try Case(name)
    try withDirectory { folder in
      try fixture.write(to: folder)
      for (numerics, limit) in [
        (Numerics(gemm: .packed), Self.float32), (Numerics(gemm: .blas), Self.float32),
        (Numerics(precision: .bf16), Self.bf16),
      ] {
        let context = try ComputeContext(threads: 2, instructionSet: level)
        let autoencoder = try Autoencoder(contentsOf: folder.path(), context: context, numerics: numerics)
        for run in fixture.runs {
          let decoded = try autoencoder.decode(fixture.file.tensor("\(run).latents"))
          let encoded = try autoencoder.encode(fixture.file.tensor("\(run).images"))
          #expect(relative(decoded, try fixture.file.tensor("\(run).decoded")) <= limit, "\(numerics), run \(run)")
          #expect(relative(encoded.mean, try fixture.file.tensor("\(run).mean")) <= limit, "\(numerics), run \(run)")
          if fixture.file.entry(named: "\(run).encoded") != nil {
            let latents = try fixture.file.tensor("\(run).encoded")
            #expect(relative(encoded.latents, latents) <= limit, "\(numerics), run \(run)")
          }
          #expect(
            relative(encoded.logvar, try fixture.file.tensor("\(run).logvar")) <= limit, "\(numerics), run \(run)")
        }
      }
    }
  }

  /// Bands, threads and the other images change no bit.
  @Test(
    "Bands, threads and the other images of a batch change no bit of a decoded image",
    arguments: Precision.training)
  func bandsAreSeamless(precision: Precision) throws {
    let fixture = try Case("tiny")
    try withDirectory { folder in
      try fixture.write(to: folder)
      let store = try SafetensorsFile(contentsOf: folder.path() + "/diffusion_pytorch_model.safetensors")
      let configuration = try AutoencoderConfiguration(contentsOf: folder.path() + "/config.json")
      func decoder(threads: Int, limit: Int) throws -> Autoencoder {
        try Autoencoder(
          store, configuration: configuration, context: ComputeContext(threads: threads, workers: threads),
          numerics: Numerics(precision: precision, gemm: .packed), wholeImageLimit: limit)
      }
      var random = Philox(seed: 4)
      let latents = Tensor(shape: [2, 4, 21, 9], elements: random.normal(count: 2 * 4 * 21 * 9))
      let whole = try decoder(threads: 1, limit: .max).decode(latents)
      let banded = try decoder(threads: 3, limit: 1)
      #expect(bitDifference(try banded.decode(latents).elements, whole.elements) == nil)
      let second = Tensor(shape: [1, 4, 21, 9], elements: Array(latents.elements.suffix(4 * 21 * 9)))
      #expect(bitDifference(try banded.decode(second).elements, Array(whole.elements.suffix(whole.count / 2))) == nil)
      #expect(
        banded.decodingMemory(latentHeight: 160, latentWidth: 160)
          < (try decoder(threads: 3, limit: .max)).decodingMemory(latentHeight: 160, latentWidth: 160))
    }
  }

  /// z = (mean − shift) · scaling_factor, or (mean − mean_c) · scaling_factor / std_c.
  @Test(
    "A draw is shifted and scaled as the mean is, and decoding takes latents back to it",
    arguments: ["shifted", "standardised"])
  func drawsAreShifted(name: String) throws {
    let fixture = try Case(name)
    try withDirectory { folder in
      try fixture.write(to: folder)
      let autoencoder = try Autoencoder(contentsOf: folder.path())
      let c = autoencoder.configuration
      let encoded = try autoencoder.encode(fixture.file.tensor("0.images"))
      let drawn = encoded.draw(seed: 3)
      let shape = encoded.mean.shape
      let (size, plane) = (shape[1] * shape[2] * shape[3], shape[2] * shape[3])
      for n in 0..<shape[0] {
        var random = Philox(seed: 3, stream: UInt64(n))
        let noise = random.normal(count: size)
        let errors = (0..<size).map { i -> Double in
          let at = n * size + i
          let draw = Double(encoded.mean.elements[at]) + exp(Double(encoded.logvar.elements[at]) / 2) * Double(noise[i])
          let channel = i / plane
          let expected =
            c.statistics.map { (draw - $0.mean[channel]) * c.scalingFactor / $0.std[channel] }
            ?? (draw - c.shiftFactor) * c.scalingFactor
          return abs(Double(drawn.elements[at]) - expected)
        }
        #expect((errors.max() ?? 1) <= 1e-5 * Double(drawn.elements.map(abs).max() ?? 0))
      }
    }
  }

  @Test("Latents are the scaled mean, and a draw adds Philox noise that depends on seed and image index alone")
  func latentsAndDraws() throws {
    let fixture = try Case("tiny")
    try withDirectory { folder in
      try fixture.write(to: folder)
      let autoencoder = try Autoencoder(contentsOf: folder.path())
      let images = try fixture.file.tensor("0.images")
      let both = try autoencoder.encode(images)
      #expect(both.latents.elements == both.mean.elements.map { $0 * 0.18215 })
      let drawn = both.draw(seed: 3)
      #expect(drawn != both.latents)
      #expect(drawn != both.draw(seed: 4))
      // Image n's draw depends on n alone.
      let second = Tensor(
        shape: [1] + images.shape.dropFirst(), elements: Array(images.elements.suffix(images.count / 2)))
      #expect(
        try autoencoder.encode(second).draw(seed: 3, first: 1).elements
          == Array(drawn.elements.suffix(drawn.count / 2)))
      // (latent/factor − mean) / e^(logvar/2) is what Philox drew.
      let noise = drawn.elements.indices.map {
        (drawn.elements[$0] / 0.18215 - both.mean.elements[$0]) / exp(both.logvar.elements[$0] / 2)
      }
      var random = Philox(seed: 3, stream: 0)
      let expected = random.normal(count: noise.count / 2).map(Double.init)
      #expect(mismatch(Array(noise.prefix(expected.count)), expected, within: .bf16(0.5)) == nil)
    }
  }
}
