import DiTAutoencoder
import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor

/// What libFuzzer calls with every input: the bytes are read as JSON, and that as a model's config.json and as the files of
/// a diffusers pipeline: scheduler_config.json, model_index.json, a transformer's and an autoencoder's config.json. All must be refused by an
/// error or read, and what was read comes back equal from what is written; a trap, a sanitizer's report or memory out of
/// proportion is a bug.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
  if let value = parse(bytes, fromPython: true) { readScheduler(value) }
  guard let value = parse(bytes) else { return 0 }
  guard let again = parse(Array(value.text.utf8)) else { preconditionFailure("what was written cannot be read") }
  precondition(again.text == value.text, "what was written is read as another value")
  guard let line = parse(Array(value.line.utf8)) else { preconditionFailure("a line cannot be read") }
  precondition(line == value, "a line is read as another value")
  readPipeline(value)
  guard let configuration = read(value) else { return 0 }
  guard let copy = read(configuration.json) else { preconditionFailure("a configuration's own JSON is refused") }
  precondition(copy == configuration, "a configuration's own JSON is another's")
  return 0
}

private func readScheduler(_ value: JSONValue) {
  func scheduler(_ value: JSONValue) -> DiffusersScheduler? {
    result { () throws(DiTError) in
      try DiffusersScheduler(reading: JSONObjectReader(value, file: "scheduler_config.json"))
    }
  }
  guard let read = scheduler(value) else { return }
  precondition(scheduler(read.json) == read, "a scheduler's own JSON is another's")
  for variance in Variance.allCases {
    guard let noise = result({ () throws(DiTError) in try read.noise(variance) }) else { continue }
    precondition(noise.configuration.steps == read.trainSteps, "a schedule of another length")
    for sampler in SamplerName.allCases {
      for count in [1, 3, 16] {
        let process = result { () throws(DiTError) in try read.process(sampler, on: noise, nil, count: count) }
        precondition(process.map { $0.evaluations.count >= count } ?? true, "a sampler of too few steps")
      }
    }
  }
}

private func readPipeline(_ value: JSONValue) {
  _ = result { () throws(DiTError) in
    let index = try PipelineIndex(reading: JSONObjectReader(value, file: "model_index.json"))
    var notes = index.notes
    let names = try index.names(10, notes: &notes)
    precondition(names?.count ?? 10 == 10, "names of other classes")
    check(notes)
  }
  _ = result { () throws(DiTError) in
    let transformer = try DiffusersTransformer(reading: JSONObjectReader(value, file: "config.json"))
    precondition(transformer.network.outChannels > 0, "a network without outputs")
    check(transformer.notes)
  }
  _ = result { () throws(DiTError) in
    var notes: [String] = []
    let autoencoder = try AutoencoderConfiguration(
      reading: JSONObjectReader(value, file: "vae/config.json"), notes: &notes)
    precondition(autoencoder.problem == nil && autoencoder.factor > 0, "an autoencoder with a problem")
    check(notes)
  }
}

/// Notes are lines for a person, as errors are.
private func check(_ notes: [String]) {
  precondition(notes.count < 10, "\(notes.count) notes")
  for note in notes {
    precondition(!note.isEmpty && note.utf8.count < 10_000, "a note of \(note.utf8.count) bytes")
    precondition(!note.contains { $0.isNewline }, "a note of several lines")
  }
}

private func parse(_ bytes: [UInt8], fromPython: Bool = false) -> JSONValue? {
  result { () throws(DiTError) in
    try JSONValue(parsing: bytes, file: "config.json", fromPython: fromPython)
  }
}

private func read(_ value: JSONValue) -> ModelConfiguration? {
  result { () throws(DiTError) in
    try ModelConfiguration(reading: JSONObjectReader(value, file: "config.json"))
  }
}

private func result<Value, Failure: Error & CustomStringConvertible>(
  _ body: () throws(Failure) -> Value
) -> Value? {
  do {
    return try body()
  } catch {
    let line = error.description
    precondition(!line.isEmpty && line.utf8.count < 10_000, "a message of \(line.utf8.count) bytes")
    precondition(!line.contains { $0.isNewline }, "a message of several lines")
    return nil
  }
}
