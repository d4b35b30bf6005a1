import DiTPictures
import DiffusionTransformers
import Foundation

let model = try DiT(contentsOf: CommandLine.arguments.dropFirst().first ?? "Sources/dit/Resources/digits-model")
let session = model.session(batch: 8)  // memory for eight images, whatever comes
