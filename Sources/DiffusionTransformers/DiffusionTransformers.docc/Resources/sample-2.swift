import DiTPictures
import DiffusionTransformers

let model = try DiT(contentsOf: "Sources/dit/Resources/digits-model")
let samples = try model.sample(.classes([4, 2, 0]))
print(samples.images.shape)  // [3, 1, 8, 8]: pictures, channels, rows, columns
