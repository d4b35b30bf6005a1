import DiTPictures
import DiffusionTransformers
import Dispatch
import Foundation

let arguments = CommandLine.arguments
guard arguments.count > 2 else { fatalError("tutorial-train PICTURES FOLDER [steps]") }
let (pictures, folder) = (arguments[1], arguments[2])

// A class for each folder in PICTURES, named as it is.
let (data, notes) = try ImageFolder(pictures).dataset(channels: 3, height: 32, width: 32)
for note in notes { print(note) }
print("\(data.count) pictures of \(data.classNames ?? [])")

let network = DiTConfiguration(
  inputHeight: 32, inputWidth: 32, patchSize: 4, inChannels: 3, hiddenSize: 96, depth: 4, numHeads: 4,
  numClasses: data.classNames?.count ?? 0, learnSigma: false)
var diffusion = DiffusionConfiguration(variance: .fixedLarge)
// The network says what the clean picture is, on a straight way to it from the noise.
(diffusion.path, diffusion.prediction, diffusion.lossTarget) = (.linear, .x0, .velocity)
let model = ModelConfiguration(network: network, diffusion: diffusion, classNames: data.classNames)

var training = TrainingConfiguration()
training.steps = arguments.count > 3 ? Int(arguments[3]) ?? 2000 : 2000
(training.batch, training.learningRate, training.warmupSteps) = (16, 1e-3, 100)
(training.logEvery, training.checkpointEvery) = (50, 500)

let trainer = try Trainer(model: model, training: training, data: data, context: ComputeContext())
let isNew = !FileManager.default.fileExists(atPath: "\(folder)/checkpoints")
let events = TrainingEvents(
  try isNew ? TrainingRun(starting: trainer, in: folder) : TrainingRun(resuming: trainer, in: folder))

// Ctrl-C saves after the step at hand.
let signals = DispatchSource.makeSignalSource(signal: SIGINT, queue: .main)
signal(SIGINT, SIG_IGN)
signals.setEventHandler { events.cancel() }
signals.resume()

do {
  for try await event in events {
    switch event {
    case .logged(let report, let seconds): print("step \(report.step): loss \(report.loss), \(1 / seconds) steps/s")
    case .checkpoint(let step, let path): print("step \(step): \(path)")
    default: break
    }
  }
  print(try await events.outcome)
} catch is CancellationError {
  print("stopped; the same command goes on")
  exit(130)
}

// FOLDER is a model directory now.
let trained = try DiT(contentsOf: folder)
let samples = try trained.sample(.classes(Array(0..<max(1, network.numClasses))))
try samples.writePNG(to: "\(folder)/samples.png", for: trained)
print("\(folder)/samples.png: \(samples.count) pictures")
