// A program's own embeddings in the place of a text: here those of two captions, mixed more and more.
//
//   Scripts/dit train --data digits --config Examples/captions.json --out runs/captions
//   swift run -c release --package-path Examples own-embeddings runs/captions zero six mixed.png
//
// Any encoder will do that makes (tokens, D) numbers for an image, if the model was trained on such.

import DiTImaging
import DiTPictures
import DiffusionTransformers

let arguments = Array(CommandLine.arguments.dropFirst())
guard arguments.count == 4 else { fatalError("own-embeddings MODEL TEXT TEXT picture.png") }
let (model, out) = (try DiT(contentsOf: arguments[0]), arguments[3])
guard let table = model.network.weights["text_embedder.table"] else { fatalError("\(arguments[0]) reads no texts") }
let width = model.configuration.network.hiddenSize

/// What the model embeds a text as: a row of its table for each byte.
func embedding(_ text: String, length: Int) -> Tensor {
  let bytes = Array(text.utf8) + [UInt8](repeating: 32, count: length - text.utf8.count)
  return Tensor(
    shape: [length, width], elements: bytes.flatMap { table[Int($0) * width..<(Int($0) + 1) * width].array })
}

let length = max(arguments[1].utf8.count, arguments[2].utf8.count)
let (from, to) = (embedding(arguments[1], length: length), embedding(arguments[2], length: length))
let mixtures = (0..<7).map { step in
  let share = Float(step) / 6
  return Tensor(shape: from.shape, elements: zip(from.elements, to.elements).map { (1 - share) * $0 + share * $1 })
}
// The same noise for all, so that what differs is what they are told.
let network = model.configuration.network
let noise = Tensor(noise: [1, network.inChannels, network.inputHeight, network.inputWidth], seed: 1)
let starts = Tensor(shape: [7] + noise.shape.dropFirst(), elements: (0..<7).flatMap { _ in noise.elements })
let samples = try model.sample(.embeddings(mixtures), start: .given(starts))
try ImageGrid(samples.pictures, columns: 7, columnLabels: [arguments[1], "", "", "", "", "", arguments[2]]).rendered()
  .writePNG(to: out)
print(out)
