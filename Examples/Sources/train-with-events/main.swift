// A small model trained in a folder, as a sequence of events. Run again in the same folder it goes on where it was.
//
//   swift run -c release --package-path Examples train-with-events FOLDER [steps]

import DiTPictures
import DiffusionTransformers
import Foundation

let arguments = CommandLine.arguments
guard arguments.count > 1 else { fatalError("train-with-events FOLDER [steps]") }
let folder = arguments[1]

let network = DiTConfiguration(
  inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 1, hiddenSize: 64, depth: 3, numHeads: 4, numClasses: 10)
var training = TrainingConfiguration()
training.steps = arguments.count > 2 ? Int(arguments[2]) ?? 600 : 600
(training.batch, training.learningRate, training.warmupSteps, training.logEvery) = (64, 2e-3, 50, 50)
(training.flip, training.validationModulus, training.checkpointEvery) = (false, 5, 200)
let data = try Dataset(contentsOf: "Sources/dit/Resources/digits.safetensors")
let trainer = try Trainer(
  model: ModelConfiguration(network: network), training: training, data: data, context: ComputeContext())
let isNew = !FileManager.default.fileExists(atPath: "\(folder)/checkpoints")
let events = TrainingEvents(
  try isNew ? TrainingRun(starting: trainer, in: folder) : TrainingRun(resuming: trainer, in: folder))

for try await event in events {
  switch event {
  case .logged(let report, let seconds): print("step \(report.step): loss \(report.loss), \(1 / seconds) steps/s")
  case .checkpoint(let step, let path): print("step \(step): \(path)")
  default: break
  }
}
print(try await events.outcome)
let model = try DiT(contentsOf: folder)
try model.sample(.classes(Array(0..<10))).writePNG(to: "\(folder)/digits.png", for: model)
print("\(folder)/digits.png")
