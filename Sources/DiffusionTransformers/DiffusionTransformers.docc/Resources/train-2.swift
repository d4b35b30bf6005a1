import DiTPictures
import DiffusionTransformers
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
