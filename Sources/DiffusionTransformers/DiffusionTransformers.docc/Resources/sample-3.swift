import DiTPictures
import DiffusionTransformers

let model = try DiT(contentsOf: "Sources/dit/Resources/digits-model")
let samples = try model.sample(.classes([4, 2, 0]))
try samples.writePNG(to: "digits.png", for: model)
print("digits.png: \(samples.count) pictures")
