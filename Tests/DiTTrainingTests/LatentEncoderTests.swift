import DiTAutoencoder
import DiTFiles
import DiTKernels
import DiTPipeline
import DiTTensor
import DiTTraining
import Foundation
import TestSupport
import Testing

@Suite("Encoding a data set to latents") struct LatentEncoderTests {
  private let directory: TemporaryDirectory
  private let autoencoder: Autoencoder
  private let data: Dataset
  private static let count = 11  // more than one batch

  init() throws {
    directory = try TemporaryDirectory()
    try AutoencoderFixture("tiny").write(to: URL(filePath: directory("vae")))
    autoencoder = try Autoencoder(contentsOf: directory("vae"), context: ComputeContext(threads: 1))
    let c = autoencoder.configuration
    var random = Philox(seed: 3)
    let shape = [Self.count, c.imageChannels, 2 * c.factor, 3 * c.factor]
    let elements = random.normal(count: shape.reduce(1, *)).map { max(-1, min(1, 0.5 * $0)) }
    data = try Dataset(
      Tensor(shape: shape, elements: elements), labels: (0..<Self.count).map { $0 % 3 }, classNames: ["a", "b", "c"],
      name: "pictures")
  }

  private func encode(_ encoder: LatentEncoder, stopAfter limit: Int = .max) throws -> (SafetensorsFile, [Int]) {
    let path = directory("z.safetensors")
    var seen: [Int] = []
    let encoded = try encoder.encode(data, for: path) { done in
      seen.append(done)
      return done < limit
    }
    try SafetensorsWriter.write(encoded.tensors, metadata: encoded.metadata, to: path)
    return (try SafetensorsFile(contentsOf: path), seen)
  }

  private func images(_ indices: Range<Int>, flipped: Bool) throws -> Tensor {
    let pixels = try indices.flatMap { try data.sample($0, flipped: flipped) }
    return Tensor(shape: [indices.count, data.channels, data.height, data.width], elements: pixels)
  }

  @Test("Mirrored images follow the others, and the file is training data with the images' labels")
  func flips() throws {
    let encoder = LatentEncoder(autoencoder, flips: true)
    #expect(encoder.count(of: data) == 2 * Self.count)
    let (file, seen) = try encode(encoder)
    #expect(seen == Array(0...2 * Self.count))
    let plain = try autoencoder.encode(images(0..<Self.count, flipped: false))
    let mirrored = try autoencoder.encode(images(0..<Self.count, flipped: true))
    #expect(try file.tensor("latents").elements == plain.latents.elements + mirrored.latents.elements)
    #expect(try file.tensor("mean").elements == plain.mean.elements + mirrored.mean.elements)
    #expect(try file.tensor("logvar").elements == plain.logvar.elements + mirrored.logvar.elements)
    let latents = try Dataset(contentsOf: directory("z.safetensors"))
    #expect(latents.kind == .latents && latents.classNames == ["a", "b", "c"])
    #expect(latents.labels == (0..<2 * Self.count).map { $0 % Self.count % 3 })
  }

  @Test("Drawn latents are those of the image's own stream under the seed")
  func draws() throws {
    let (file, _) = try encode(LatentEncoder(autoencoder, drawingWithSeed: 5))
    let whole = try autoencoder.encode(images(0..<Self.count, flipped: false))
    #expect(try file.tensor("latents") == whole.draw(seed: 5))
  }

  @Test("A run that is stopped has the images that are finished, down to none")
  func stopping() throws {
    let (file, seen) = try encode(LatentEncoder(autoencoder), stopAfter: 9)
    #expect(seen.last == 9)
    #expect(try file.requireEntry(named: "latents").shape[0] == 9 && file.integers("labels").values.count == 9)
    let none = try LatentEncoder(autoencoder).encode(data, for: directory("none.safetensors")) { _ in false }
    #expect(none.count == 0 && none.tensors.isEmpty)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory("")).sorted() == ["vae", "z.safetensors"])
  }
}
