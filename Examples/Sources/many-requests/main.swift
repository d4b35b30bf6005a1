// Many callers of one model, as a server has them: their images share the network's evaluations, each at its own step.
//
//   swift run -c release --package-path Examples many-requests [requests]

import DiffusionTransformers

let count = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 24
let model = try DiT(contentsOf: "Sources/dit/Resources/digits-model")
let session = model.session(batch: 8)  // memory for eight images, whatever comes

let start = ContinuousClock.now
let inks = try await withThrowingTaskGroup(of: (Int, Int).self) { group in
  for n in 0..<count {
    group.addTask {
      var options = model.samplingOptions  // the model's own, to begin with
      options.sampler.steps = 10 + n % 5  // requests differ in length,
      options.seed = UInt64(n)  // seed
      let samples = try await session.sampling(.classes([n % 10]), options: options).samples  // and class
      return (n, samples[0].image.elements.count { $0 > 0 })
    }
  }
  var inks: [(Int, Int)] = []
  for try await ink in group { inks.append(ink) }
  return inks
}
let seconds = Double((ContinuousClock.now - start) / .milliseconds(1)) / 1000
for (n, ink) in inks.sorted(by: { $0.0 < $1.0 }) { print("request \(n): a \(n % 10) of \(ink) dark pixels") }
print("\(count) requests in \(seconds) s")
