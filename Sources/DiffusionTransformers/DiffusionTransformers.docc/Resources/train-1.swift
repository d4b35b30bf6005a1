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
