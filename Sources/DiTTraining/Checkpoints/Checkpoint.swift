// A checkpoint is a folder DIR/checkpoints/step-00001000:
//
//   config.json, model.safetensors, ema.safetensors     a model directory, with ema-b.safetensors for each further
//                                                       decay b of ema_decays
//   training.json                                       the training settings and what identifies the data
//   state.safetensors                                   AdamW's moments (m.NAME, v.NAME), step, samples, and
//                                                       earlier_steps where they began with another program's
//
// It is written under a hidden name and renamed when everything is on the disk, so a folder of the right name is complete.
// All random numbers follow from the seed and the number of samples drawn, so these are the whole random state.

import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor

/// A checkpoint on disk: its settings and counters. The weights are read when a run takes it up.
public struct Checkpoint: Sendable {
  static let trainingFile = "training.json"
  static let stateFile = "state.safetensors"

  /// The folder, which is also a model directory.
  public let path: String
  /// Steps done.
  public let step: Int
  public let model: ModelConfiguration
  public let training: TrainingConfiguration
  let data: DataIdentity
  private let directory: ModelDirectory

  /// The newest checkpoint of the run in `directory`; nil when there is none.
  ///
  /// - Throws: `DiTError` when it cannot be read.
  public static func latest(in directory: String) throws -> Checkpoint? {
    let store = CheckpointStore(directory: directory)
    guard let step = try store.steps.last else { return nil }
    return try Checkpoint(contentsOf: store.path(step), step: step)
  }

  init(contentsOf path: String, step: Int) throws {
    self.path = path
    self.step = step
    directory = try ModelDirectory(contentsOf: path)
    var model = directory.configuration
    model.autoencoder = model.autoencoder.map(CheckpointStore.autoencoder(seenFromRun:))
    self.model = model
    var reader = try JSONObjectReader(contentsOf: "\(path)/\(Self.trainingFile)")
    guard let training = try reader.object("training") else {
      throw reader.failure("training", expected: "an object", found: "nothing")
    }
    self.training = try TrainingConfiguration(reading: training)
    guard let data = try reader.object("data") else {
      throw reader.failure("data", expected: "an object", found: "nothing")
    }
    self.data = try DataIdentity(reading: data)
    try reader.finish()
  }

  /// Copies the trained weights, or their average, into a flat buffer.
  func copy(_ choice: WeightChoice, to flat: MutableFloatSlice) throws { try directory.weights(choice).copy(to: flat) }

  /// Copies a further average of `ema_decays` into a flat buffer.
  func copyAverage(_ decay: Double, to flat: MutableFloatSlice) throws {
    try directory.weights(averagedWith: decay).copy(to: flat)
  }

  /// Throws unless a run with these settings and data would go on as the checkpoint's would have, perhaps for more steps.
  func check(_ model: ModelConfiguration, _ training: TrainingConfiguration, _ data: Dataset) throws(DiTError) {
    var free = TrainingConfiguration.loading + TrainingConfiguration.watching
    if training.steps > self.training.steps { free += TrainingConfiguration.length }
    let keys =
      differences(self.model.json, model.json, "model").filter { !$0.hasPrefix("model.sampling") }
      + differences(self.training.json, training.json, "training").filter { difference in
        !free.contains { difference.hasPrefix("training.\($0) ") }
      }
      + differences(self.data.json, DataIdentity(data).json, "data")
    guard keys.isEmpty else { throw DiTError(run: path, .differs(keys: keys)) }
  }

  /// What settings for more steps make of the run; nil where they are its own.
  public func extended(by training: TrainingConfiguration) -> TrainingExtension? {
    guard training.steps > self.training.steps else { return nil }
    return TrainingExtension(step: step, from: self.training, to: training)
  }
}

/// A run that is resumed with more steps than it had.
public struct TrainingExtension: Equatable, Sendable {
  /// Steps done.
  public let step: Int
  /// `steps` as they were and as they are.
  public let oldSteps, steps: Int
  public let schedule: LearningRateSchedule
  /// Where a cosine came to 0, and where it does now: steps done keep the rates that they had.
  public let oldScheduleEnd, scheduleEnd: Int
  /// The rates of the step that is next, by the old settings and by the new.
  public let oldRate, rate: Double

  init(step: Int, from old: TrainingConfiguration, to new: TrainingConfiguration) {
    self.step = step
    (oldSteps, steps, schedule) = (old.steps, new.steps, new.schedule)
    (oldScheduleEnd, scheduleEnd) = (old.scheduleEnd, new.scheduleEnd)
    (oldRate, rate) = (old.learningRate(step: step + 1), new.learningRate(step: step + 1))
  }

  /// One line for the user.
  public var note: String {
    let head = "resumed after step \(step) with \(steps) steps in place of \(oldSteps); learning rate: "
    switch schedule {
    case .constant: return head + "constant"
    case .cosine where scheduleEnd == oldScheduleEnd:
      return head + "the cosine as it was, 0 from step \(scheduleEnd) on (schedule_steps)"
    case .cosine:
      return head + "the cosine stretched to step \(scheduleEnd), from \(oldScheduleEnd); step \(step + 1) has \(rate)"
    }
  }
}

/// The data a run was made with, as far as a checkpoint remembers them: no path.
struct DataIdentity: Equatable, Sendable {
  var samples: Int
  var digest: String

  init(_ data: Dataset) {
    samples = data.count
    digest = String(data.digest, radix: 16)
  }

  init(reading reader: JSONObjectReader) throws(DiTError) {
    var reader = reader
    guard let samples = try reader.integer("samples") else {
      throw reader.failure("samples", expected: "a number", found: "nothing")
    }
    guard let digest = try reader.string("digest") else {
      throw reader.failure("digest", expected: "a string", found: "nothing")
    }
    try reader.finish()
    self.samples = samples
    self.digest = digest
  }

  var json: JSONValue {
    .object([JSONMember("samples", .integer(samples)), JSONMember("digest", .string(digest))])
  }
}

/// The keys at which two JSON values differ, dotted, with the checkpoint's value and the one asked for.
private func differences(_ old: JSONValue, _ new: JSONValue, _ path: String) -> [String] {
  guard case .object(let olds) = old, case .object(let news) = new else {
    return old == new ? [] : ["\(path) is \(line(old)), not \(line(new))"]
  }
  let keys = olds.map(\.key) + news.map(\.key).filter { key in !olds.contains { $0.key == key } }
  return keys.flatMap { key in
    differences(
      olds.first { $0.key == key }?.value ?? .null, news.first { $0.key == key }?.value ?? .null, "\(path).\(key)")
  }
}

private func line(_ value: JSONValue) -> String {
  value.text.split(separator: "\n").joined()
}

// MARK: - The folder of checkpoints

/// The checkpoints of one run.
struct CheckpointStore {
  private static let prefix = "step-"
  private static let unfinished = ".partial-"
  /// DIR/checkpoints.
  let path: String

  init(directory: String) { path = "\(directory)/checkpoints" }

  func path(_ step: Int) -> String { "\(path)/\(Self.name(step))" }

  /// The steps of the complete checkpoints, ascending.
  ///
  /// - Throws: `DiTError` for a folder that cannot be listed: a run is not begun anew over checkpoints that are not seen.
  var steps: [Int] {
    get throws(DiTError) {
      try Directory.names(path).compactMap { name in
        guard name.hasPrefix(Self.prefix), let step = Int(name.dropFirst(Self.prefix.count)),
          0...Self.maximumStep ~= step, Self.name(step) == name
        else { return nil }
        return step
      }.sorted()
    }
  }

  /// The largest number of steps of a run (`training.steps`).
  private static let maximumStep = 1_000_000_000

  private static func name(_ step: Int) -> String {
    let digits = String(step)
    return prefix + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
  }

  /// Removes what an interrupted save or removal left.
  func clean() throws(DiTError) {
    for name in try Directory.names(path) where name.hasPrefix(Self.unfinished) {
      try Directory.remove("\(path)/\(name)")
    }
  }

  /// Writes the trainer's state. When this returns, the checkpoint is durable; until then it does not exist. Of several processes
  /// the first writes what all of them have; all call it.
  func save(_ trainer: Trainer) throws -> String {
    let target = path(trainer.completedSteps)
    guard trainer.group.isFirst else {
      try trainer.export(to: target)
      try trainer.writeState(to: target)
      return target
    }
    try clean()
    let directory = try AtomicDirectory(
      path: target, temporaryName: Self.unfinished + Self.name(trainer.completedSteps))
    let temporary = directory.temporary
    try directory.writing { try Self.write(trainer, to: temporary) }
    try directory.commit()
    return target
  }

  private static func write(_ trainer: Trainer, to directory: String) throws {
    try trainer.export(seen(trainer.model, levels: 2), to: directory)
    let settings = JSONValue.object([
      JSONMember("training", trainer.training.json), JSONMember("data", DataIdentity(trainer.data).json),
    ])
    try AtomicFile.write(settings.text, to: "\(directory)/\(Checkpoint.trainingFile)")
    try trainer.writeState(to: "\(directory)/\(Checkpoint.stateFile)")
  }

  private static let run = "../../"

  /// A run's model as the config.json of a folder so many levels inside the run's says it: an autoencoder is found from there.
  static func seen(_ model: ModelConfiguration, levels: Int) -> ModelConfiguration {
    var model = model
    model.autoencoder = model.autoencoder.map { path in
      path.utf8.first == UInt8(ascii: "/") ? path : String(repeating: "../", count: levels) + path
    }
    return model
  }

  /// The path in the run's own.
  static func autoencoder(seenFromRun path: String) -> String {
    path.hasPrefix(run) ? String(path.dropFirst(run.count)) : path
  }

  /// Removes all but the newest `count`. A folder loses its name before its first file.
  func prune(keeping count: Int) throws(DiTError) {
    for step in try steps.dropLast(count) {
      let doomed = "\(path)/\(Self.unfinished)\(Self.name(step))"
      try Directory.rename(path(step), to: doomed)
      try Directory.remove(doomed)
    }
  }
}

// MARK: - The optimizer's state

extension Trainer {
  private static let stepKey = "step"
  private static let samplesKey = "samples"
  private static let earlierKey = "earlier_steps"

  private var moments: [(prefix: String, flat: MutableFloatSlice)] { [("m.", firstMoment), ("v.", secondMoment)] }

  /// Every trainable tensor's two moments and the counters. Of several processes the first writes; all call it.
  func writeState(to path: String) throws {
    let tensors: [TensorSource]
    if group.size == 1 {
      tensors = moments.flatMap { moment in
        table.trainableParameters.map {
          TensorSource(moment.prefix + $0.name, moment.flat[$0.range].reading, shape: $0.shape)
        }
      }
    } else {
      // The writer's order, in which every rank gives its parts.
      let names = moments.flatMap { moment in
        table.trainableParameters.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }.map { (moment, $0) }
      }
      let pieces = ShardedPieces(sharding, group)
      guard group.isFirst else {
        for (moment, parameter) in names { try pieces.give(parameter.range, of: moment.flat) }
        return
      }
      tensors = names.map { moment, parameter in
        TensorSource(moment.prefix + parameter.name, shape: parameter.shape) { offset, chunk in
          try pieces.copy(from: offset, of: parameter.range, of: moment.flat, into: &chunk)
        }
      }
    }
    let counters =
      [
        TensorSource(Self.stepKey, shape: [], integers: [completedSteps]),
        TensorSource(Self.samplesKey, shape: [], integers: [samplesSeen]),
      ] + (earlierSteps > 0 ? [TensorSource(Self.earlierKey, shape: [], integers: [earlierSteps])] : [])
    try SafetensorsWriter.write(tensors + counters, to: path)
  }

  /// Takes up the values, moments and counters of a checkpoint with this trainer's settings.
  ///
  /// - Throws: what reading the files throws, and `DiTError` also for
  ///   moments that are not finite.
  func restore(_ checkpoint: Checkpoint) throws {
    try checkpoint.copy(.model, to: weights)
    if group.size == 1 {
      try checkpoint.copy(.ema, to: average)
      for (decay, values) in furtherAverages { try checkpoint.copyAverage(decay, to: values) }
    } else {
      try checkpoint.copy(.ema, to: gradients)
      sharding.copy(gradients.reading, to: average)
      for (decay, values) in furtherAverages {
        try checkpoint.copyAverage(decay, to: gradients)
        sharding.copy(gradients.reading, to: values)
      }
    }
    let file = try SafetensorsFile(contentsOf: "\(checkpoint.path)/\(Checkpoint.stateFile)")
    let expected = moments.flatMap { moment in
      table.trainableParameters.map { (name: moment.prefix + $0.name, shape: $0.shape) }
    }
    let counters = [Self.stepKey, Self.samplesKey, Self.earlierKey].map { (name: $0, shape: [Int]()) }
    try StateDict.check(file, holds: expected + counters, optional: [Self.earlierKey])
    for (prefix, flat) in moments {
      for parameter in table.trainableParameters {
        for (part, local) in sharding.owned(of: parameter.range) {
          var target = flat[local].mutableSpan
          try file.copyFloats(prefix + parameter.name, from: part.lowerBound, into: &target)
          if let bad = flat[local].span.firstNotFinite {
            throw DiTError(
              file: file.path, .tensor(prefix + parameter.name), expected: "finite numbers",
              found: "\(flat[local].span[bad]) at element \(part.lowerBound + bad)")
          }
        }
        file.releasePages(of: prefix + parameter.name)
      }
    }
    try restoreCounters(file, checkpoint)
  }

  private func restoreCounters(_ file: SafetensorsFile, _ checkpoint: Checkpoint) throws {
    let step = try file.integers(Self.stepKey).values[0]
    let samples = try file.integers(Self.samplesKey).values[0]
    for (name, expected, found) in [
      (Self.stepKey, checkpoint.step, step), (Self.samplesKey, checkpoint.step * training.batch, samples),
    ] where expected != found {
      throw DiTError(file: file.path, .tensor(name), expected: "\(expected)", found: "\(found)")
    }
    completedSteps = step
    samplesSeen = samples
    earlierSteps = file.entry(named: Self.earlierKey) == nil ? 0 : try file.integers(Self.earlierKey).values[0]
    guard (0...TorchAdam.maximumSteps).contains(earlierSteps) else {
      throw DiTError(
        file: file.path, .tensor(Self.earlierKey), expected: "0 to \(TorchAdam.maximumSteps)",
        found: "\(earlierSteps)")
    }
  }
}
