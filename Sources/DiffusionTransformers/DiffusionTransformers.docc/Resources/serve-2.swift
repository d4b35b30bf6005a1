import DiTPictures
import DiffusionTransformers
import Foundation

let model = try DiT(contentsOf: CommandLine.arguments.dropFirst().first ?? "Sources/dit/Resources/digits-model")
let session = model.session(batch: 8)  // memory for eight images, whatever comes

/// A line of input: {"classes": [3, 7], "options": {"steps": 20, "seed": 1}, "out": "a.png"}
struct Request: Decodable {
  var classes: [Int]
  var options: SamplingOptions.Changes?
  var out: String
}
