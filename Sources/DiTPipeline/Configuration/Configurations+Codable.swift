import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

// Codable by the keys of config.json, through that file's reader: an unknown key, another type or a value out of range throws
// `DiTError` with the key's whole path (`jobs.0.model.diffusion.steps`). Decoders come before it: what they make of a key that
// stands twice, or of 4.0 where a whole number is wanted, is theirs, and their strategies for keys must leave keys as they are.

extension ModelConfiguration: Codable {
  /// - Throws: `DiTError` for what ``init(contentsOf:)`` refuses.
  public init(from decoder: any Decoder) throws { try self.init(reading: JSONObjectReader(from: decoder)) }

  public func encode(to encoder: any Encoder) throws { try json.encode(to: encoder) }
}

extension DiTConfiguration: Codable {
  /// The keys of config.json that say what the network is; those left out are the published DiT's.
  ///
  /// - Throws: `DiTError` for an unknown key, a value that cannot be used, and sizes that contradict each other.
  public init(from decoder: any Decoder) throws { try self.init(reading: JSONObjectReader(from: decoder)) }

  public func encode(to encoder: any Encoder) throws { try json.encode(to: encoder) }
}

extension DiffusionConfiguration: Codable {
  /// The keys of config.json's `diffusion` block; those left out are the published DiT's.
  ///
  /// - Throws: `DiTError` for an unknown key, a value that cannot be used, and a process that cannot be.
  public init(from decoder: any Decoder) throws {
    let reader = try JSONObjectReader(from: decoder)
    try self.init(reading: reader, defaults: DiffusionConfiguration())
    do throws(DiTError) {
      _ = try NoiseSchedule(self)
    } catch {
      throw reader.attributing(error, to: error.name.split(separator: ".").last.map(String.init) ?? error.name)
    }
  }

  public func encode(to encoder: any Encoder) throws { try json.encode(to: encoder) }
}

extension SamplingConfiguration: Codable {
  /// The keys of config.json's `sampling` block. `sampler`, `steps` and `guidance` must be there, as no model says what they
  /// are by default.
  ///
  /// What goes with a model's family, and so is not in its config.json, has keys of its own: `guidance_ends` (`closed`, `jit`,
  /// `closed_by_step`) and `corrects_last_step`.
  ///
  /// - Throws: `DiTError` for an unknown or missing key and a value that cannot be used. Whether the values fit a model is for
  ///   the call that samples.
  public init(from decoder: any Decoder) throws {
    var reader = try JSONObjectReader(from: decoder)
    try Self.requireKeys(of: reader)
    self = .unset
    try updateOfFamily(reading: &reader)
    try self.init(reading: reader, defaults: self)
  }

  /// - Throws: `DiTError` (`sampler`) for the sampler of a saved scheduler whose class is not here: no name stands for it.
  public func encode(to encoder: any Encoder) throws { try JSONValue.object(membersAlone()).encode(to: encoder) }

  private static let (endsKey, correctsKey) = ("guidance_ends", "corrects_last_step")

  /// The keys that say all by themselves, without a model.
  func membersAlone() throws(DiTError) -> [JSONMember] {
    if let name = sampler.unavailableClass {
      throw DiTError(key: "sampler", expected: "a sampler that is here, to stand by itself", found: name)
    }
    guard case .object(var members) = json else { return [] }
    if guidance.ends != .closed { members.append(JSONMember(Self.endsKey, .string(guidance.ends.rawValue))) }
    if sampler.correctsLastStep { members.append(JSONMember(Self.correctsKey, .bool(true))) }
    return members
  }

  /// Takes what goes with a model's family.
  mutating func updateOfFamily(reading reader: inout JSONObjectReader) throws(DiTError) {
    guidance.ends = try reader.word(Self.endsKey) ?? guidance.ends
    sampler.correctsLastStep = try reader.bool(Self.correctsKey) ?? sampler.correctsLastStep
  }

  /// What ``requireKeys(of:)`` sees replaced.
  static let unset = SamplingConfiguration(sampler: Sampler(.ddim, steps: 1), guidance: Guidance(scale: 1))

  static func requireKeys(of reader: JSONObjectReader) throws(DiTError) {
    for key in ["sampler", "steps", "guidance"] where reader.peek(key) == nil {
      if key == "steps", case .string(let text)? = reader.peek("schedule"), text.hasPrefix("custom") { continue }
      throw reader.failure(key, expected: "a value", found: "none")
    }
  }
}

extension SamplingOptions: Codable {
  private static let (seedKey, randomKey, batchKey, shareKey) = ("seed", "rng", "batch", "share")

  /// The keys of config.json's `sampling` block, and `seed`, `rng` (`philox`, `torch`), `batch` and `share`
  /// (`i/n`), which may be left out.
  /// `sampler`, `steps` and `guidance` must be there; to change some options of a model's own use `update(json:)`.
  ///
  /// - Throws: as `SamplingConfiguration.init(from:)`.
  public init(from decoder: any Decoder) throws {
    let reader = try JSONObjectReader(from: decoder)
    try SamplingConfiguration.requireKeys(of: reader)
    let unset = SamplingConfiguration.unset
    self.init(sampler: unset.sampler, guidance: unset.guidance)
    try update(reading: reader)
  }

  public func encode(to encoder: any Encoder) throws {
    var members = try SamplingConfiguration(sampler: sampler, guidance: guidance).membersAlone()
    let seed = Int(exactly: seed).map { JSONValue.integer($0) } ?? .string("\(seed)")
    members += [JSONMember(Self.seedKey, seed), JSONMember(Self.randomKey, .string(random.rawValue))]
    if let batch { members.append(JSONMember(Self.batchKey, .integer(batch))) }
    if share != .whole { members.append(JSONMember(Self.shareKey, .string("\(share)"))) }
    try JSONValue.object(members).encode(to: encoder)
  }

  /// Takes over the options that a JSON object names, such as the body of a request, and leaves the others as they are.
  ///
  ///     var options = model.samplingOptions
  ///     try options.update(json: Array(#"{"steps": 20, "guidance": 2, "seed": 7}"#.utf8))
  ///
  /// - Throws: `DiTError` for what is no JSON object, a key that is unknown or stands twice, and a value that cannot be used;
  ///   the options are then as they were.
  public mutating func update(json: some Sequence<UInt8>) throws(DiTError) {
    try update(reading: JSONObjectReader(JSONValue(parsing: Array(json), file: ""), file: ""))
  }

  /// The same of a text.
  public mutating func update(json: String) throws(DiTError) { try update(json: json.utf8) }

  /// Options that a request names, decoded as part of a type of the program's own; ``apply(_:)`` lays them over a model's.
  ///
  ///     struct Request: Decodable {
  ///       var classes: [Int]
  ///       var options: SamplingOptions.Changes?
  ///     }
  public struct Changes: Decodable, Sendable {
    private let value: JSONValue
    private let path: String

    /// - Throws: `DiTError` where there is no object. Keys and values are looked at when the changes are applied.
    public init(from decoder: any Decoder) throws {
      value = try JSONValue(from: decoder)
      path = try JSONObjectReader(from: decoder).path
    }

    fileprivate func reader() throws(DiTError) -> JSONObjectReader { try JSONObjectReader(value, file: "", path: path) }
  }

  /// Takes over the options that a request names.
  ///
  /// - Throws: `DiTError` with the whole path of a key that is unknown or has a value that cannot be used; the options are then
  ///   as they were.
  public mutating func apply(_ changes: Changes) throws(DiTError) { try update(reading: changes.reader()) }

  private mutating func update(reading reader: JSONObjectReader) throws(DiTError) {
    var (reader, options) = (reader, self)
    switch reader.value(Self.seedKey) {
    case nil: break
    case .integer(let seed)? where seed >= 0: options.seed = UInt64(seed)
    case let other?:
      // JSON's readers know whole numbers up to Int.max; larger seeds are written as strings.
      guard case .string(let text) = other, let seed = UInt64(text) else {
        throw reader.failure(Self.seedKey, expected: "a whole number from 0 to \(UInt64.max)", found: other.summary)
      }
      options.seed = seed
    }
    options.random = try reader.word(Self.randomKey) ?? random
    if let text = try reader.string(Self.shareKey) {
      guard let share = ImageShare(text) else {
        throw reader.failure(Self.shareKey, expected: ImageShare.expectation, found: text)
      }
      options.share = share
    }
    options.batch = try reader.integer(Self.batchKey, in: 1...Int.max) ?? batch
    var own = SamplingConfiguration(sampler: sampler, guidance: guidance)
    try own.updateOfFamily(reading: &reader)
    let sampling = try SamplingConfiguration(reading: reader, defaults: own)
    (options.sampler, options.guidance) = (sampling.sampler, sampling.guidance)
    self = options
  }
}
