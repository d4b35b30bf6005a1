// A photo editor: paints the white part of a mask anew, and leaves every other pixel of the photo as it is.
//
//   swift run -c release --package-path Examples edit-photo out.png MODEL CLASS photo.jpg mask.png [strength]
//   swift run -c release --package-path Examples edit-photo out.png
//
// MODEL is a model directory, with the autoencoder that its config.json names where it makes latents. Without a photo the
// lower half of a three is painted as each of the ten digits.

import DiTImaging
import DiTPictures
import DiffusionTransformers

let arguments = Array(CommandLine.arguments.dropFirst())
guard let out = arguments.first else { fatalError("edit-photo out.png [MODEL CLASS photo.jpg mask.png [strength]]") }

if arguments.count >= 5 {
  let model = try DiT(contentsOf: arguments[1])
  let autoencoder = try Autoencoder(of: model, in: arguments[1])
  let edit = try PictureEdit(arguments[3], mask: arguments[4], feather: 4, for: model, autoencoder: autoencoder)
  let strength = arguments.count > 5 ? Double(arguments[5]) ?? 1 : 1
  let samples = try model.sample(
    .names([arguments[2]]), start: edit.start(strength: strength), inpainting: edit.inpainting)
  try edit.pictures(of: samples)[0].writePNG(to: out)
} else {
  let model = try DiT(contentsOf: "Sources/dit/Resources/digits-model")
  let three = try model.sample(.classes([3]))[0]
  let mask = Tensor(shape: [1, 1, 8, 8], elements: (0..<64).map { $0 < 32 ? 0 : 1 })
  let edit = try PictureEdit(pixels: three.image.reshaped(1, 1, 8, 8), mask: mask)
  let samples = try model.sample(.classes(Array(0..<10)), inpainting: edit.inpainting)
  let pictures = try [three.picture] + edit.pictures(of: samples)
  try ImageGrid(pictures, columns: 11, columnLabels: ["3"] + (0..<10).map(String.init)).rendered().writePNG(to: out)
}
print(out)
