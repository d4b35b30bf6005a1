import DiTPictures
import DiffusionTransformers

let model = try DiT(contentsOf: "Sources/dit/Resources/digits-model")
var options = model.samplingOptions  // the model's own, to begin with
options.sampler.steps = 20
options.guidance.scale = 1.5
options.seed = 7
let samples = try model.sample(.classes([4, 2, 0]), options: options) { progress in
  print("step \(progress.step) of \(progress.steps)")
  return true  // false stops
}
try samples.writePNG(to: "digits.png", for: model)
print("digits.png: \(samples.count) pictures")
