import DiTPictures
import DiffusionTransformers

let model = try DiT(contentsOf: "Sources/dit/Resources/digits-model")
print(model.configuration.network.numClasses, "classes")
