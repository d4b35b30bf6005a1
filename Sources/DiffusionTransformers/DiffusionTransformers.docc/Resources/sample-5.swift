import DiTPictures
import DiffusionTransformers
import Foundation

let arguments = CommandLine.arguments.dropFirst()
let path = arguments.first ?? "digits.png"
let folder = arguments.dropFirst().first ?? "Sources/dit/Resources/digits-model"

do {
  let model = try DiT(contentsOf: folder)
  var options = model.samplingOptions  // the model's own, to begin with
  options.sampler.steps = 20
  options.guidance.scale = 1.5
  options.seed = 7
  let samples = try model.sample(.classes([4, 2, 0]), options: options) { progress in
    print("step \(progress.step) of \(progress.steps)")
    return true  // false stops
  }
  try samples.writePNG(to: path, for: model)
  print("\(path): \(samples.count) pictures")
} catch let error as DiTError {
  print(error)  // one line: which file or option, what was expected, what was found
  exit(1)
}
