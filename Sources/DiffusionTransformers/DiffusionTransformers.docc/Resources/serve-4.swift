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

func answer(_ line: String) async {
  defer { fflush(nil) }  // at once, also into a pipe
  do {
    let request = try JSONDecoder().decode(Request.self, from: Data(line.utf8))
    var options = model.samplingOptions  // the model's own, to begin with
    if let changes = request.options { try options.apply(changes) }
    let samples = try await session.sampling(.classes(request.classes), options: options).samples
    try samples.writePNG(to: request.out, for: model)
    print("\(request.out): \(samples.count) pictures")
  } catch {
    print("refused: \(error)")  // this request's caller hears of it; the others go on
  }
}

await withDiscardingTaskGroup { group in
  while let line = readLine() {
    group.addTask { await answer(line) }
  }
}
print("no more requests")
