// A progress bar that Ctrl-C ends after the step at hand; the images that are done are kept.
//
//   swift run -c release --package-path Examples progress-bar [picture.png]

import DiTPictures
import DiffusionTransformers
import Dispatch
import Foundation

let model = try DiT(contentsOf: "Sources/dit/Resources/digits-model")
let run = model.sampling(.classes(Array(0..<10)))

let signals = DispatchSource.makeSignalSource(signal: SIGINT, queue: .main)
signal(SIGINT, SIG_IGN)
signals.setEventHandler { run.cancel() }
signals.resume()

do {
  for try await step in run {
    let done = 40 * step.completedSteps / step.totalSteps
    let bar = String(repeating: "#", count: done) + String(repeating: " ", count: 40 - done)
    FileHandle.standardError.write(Data("\r[\(bar)]".utf8))
  }
} catch is CancellationError {
  print("stopped")
}
if let samples = run.finished, !samples.isEmpty {
  let path = CommandLine.arguments.dropFirst().first ?? "digits.png"
  try samples.writePNG(to: path, for: model)
  print("\(path): \(samples.count) digits")
}
