import DiTAutoencoder
import DiTImaging
import DiTKernels
import DiTPictures
import DiTPipeline
import DiTTensor
import Foundation
import TestSupport
import Testing

@Suite("Pictures that are edited") struct PictureEditTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func digits() throws -> DiT {
    try DiT(contentsOf: Fixture.path("digits"), context: ComputeContext(threads: 1, workers: 1))
  }

  private func write(_ name: String, _ width: Int, _ height: Int, _ shade: (Int, Int) -> UInt8) throws -> String {
    let pixels = (0..<width * height).map { shade($0 % width, $0 / width) }
    try Image(width: width, height: height, channels: 1, pixels: pixels).writePNG(to: scratch(name))
    return scratch(name)
  }

  @Test("A picture and its mask are fitted alike, as training data are")
  func fitting() throws {
    let model = try digits()
    let picture = try write("wide.png", 24, 16) { x, _ in UInt8(10 * x) }
    let mask = try write("mask.png", 24, 16) { x, _ in x < 12 ? 0 : 255 }
    let edit = try PictureEdit(picture, mask: mask, for: model)
    let expected = try Image(contentsOf: picture, fittedTo: (width: 8, height: 8))
    #expect(edit.pixels.elements == expected.pixels.map { Float($0) / 127.5 - 1 } && edit.image == edit.pixels)
    let half = try #require(edit.mask)
    #expect(half.shape == [1, 1, 8, 8])
    for (i, value) in half.elements.enumerated() { #expect(value == (i % 8 < 4 ? 0 : 1), "\(i)") }
    #expect(edit.inpainting == Inpainting(image: edit.image, mask: half))
    #expect(try PictureEdit(picture, for: model).inpainting == nil)
  }

  @Test("A feather falls off inside the mask by the distance to what is kept")
  func feathers() throws {
    let model = try digits()
    let picture = try write("p.png", 8, 8) { _, _ in 100 }
    let mask = try write("m.png", 8, 8) { x, _ in x < 2 ? 0 : 255 }
    let edge = try #require(try PictureEdit(picture, mask: mask, feather: 3, for: model).mask)
    for y in 0..<8 {
      #expect((0..<8).map { edge[at: 0, 0, y, $0] } == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1])
    }
    let corner = try write("c.png", 8, 8) { x, y in x == 0 && y == 0 ? 0 : 255 }
    let round = try #require(try PictureEdit(picture, mask: corner, feather: 7, for: model).mask)
    #expect(abs(round[at: 0, 0, 3, 4] - 5.0 / 8) < 1e-6, "3 down and 4 across are 5 away")
    let whole = try write("w.png", 8, 8) { _, _ in 255 }
    #expect(try PictureEdit(picture, mask: whole, feather: 3, for: model).mask?.elements.allSatisfy { $0 == 1 } == true)
  }

  @Test("What a mask keeps has the picture's bytes, and a half is mixed")
  func restored() throws {
    let pixels = Tensor(shape: [1, 1, 8, 8], elements: (0..<64).map { Float($0 * 4) / 127.5 - 1 })
    let mask = Tensor(shape: [1, 1, 8, 8], elements: (0..<64).map { [0, 0.5, 1][$0 % 3] })
    let edit = try PictureEdit(pixels: pixels, mask: mask)
    let samples = try digits().sample(
      .classes([1, 2]), start: edit.start(strength: 0.7), inpainting: edit.inpainting)
    let pictures = try edit.pictures(of: samples)
    for picture in pictures {
      for i in stride(from: 0, to: 64, by: 3) { #expect(picture.pixels[i] == UInt8(i * 4)) }
    }
    // What is between was mixed by the sampler, once.
    var painted = Tensor(shape: [1, 1, 8, 8], elements: [Float](repeating: 3, count: 64))
    edit.restore(&painted)
    #expect(painted.elements[0] == pixels.elements[0] && painted.elements[1] == 3 && painted.elements[2] == 3)
  }

  /// The fixture's autoencoder on an image that it decodes to something else: kept pixels come from the picture.
  @Test("Latents are painted where one of their pixels is, and kept pixels are the picture's own")
  func latents() throws {
    let autoencoder = try Autoencoder(
      contentsOf: Fixture.path("whole/vae", folder: "diffusers"), context: ComputeContext(threads: 1, workers: 1),
      numerics: Numerics())
    let (factor, channels) = (autoencoder.configuration.factor, autoencoder.configuration.imageChannels)
    let side = 4 * factor
    let pixels = Tensor(
      shape: [1, channels, side, side], elements: (0..<channels * side * side).map { Float($0 % 17) / 8 - 1 })
    var mask = Tensor(zeros: [1, 1, side, side])
    mask[at: 0, 0, 0, side - 1] = 0.5
    let edit = try PictureEdit(pixels: pixels, mask: mask, autoencoder: autoencoder)
    #expect(edit.image.shape == [1, autoencoder.configuration.latentChannels, 4, 4])
    let small = try #require(edit.inpainting).mask
    #expect(small.elements.enumerated().allSatisfy { $1 == ($0 == 3 ? 1 : 0) })
    let samples = Samples(images: edit.image, labels: [], isComplete: true)
    let picture = try edit.pictures(of: samples)[0]
    var mixed = Tensor(shape: pixels.shape, elements: [Float](repeating: 1, count: pixels.count))
    edit.restore(&mixed)
    #expect(mixed[at: 0, 0, 0, side - 1] == 0.5 + 0.5 * pixels[at: 0, 0, 0, side - 1], "mixed once, in pixels")
    #expect(mixed[at: 0, 0, 1, 1] == pixels[at: 0, 0, 1, 1])
    let own = Image.pictures(of: pixels)[0]
    let differing = picture.pixels.indices.filter { picture.pixels[$0] != own.pixels[$0] }
    #expect(differing.allSatisfy { $0 / channels == side - 1 }, "one pixel is the decoder's")
  }
}
