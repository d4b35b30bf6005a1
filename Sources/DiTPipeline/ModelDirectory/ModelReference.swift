import DiTDiffusers
import DiTFiles
import DiTModel
import DiTTensor
import Foundation

/// What a state dict's shapes cannot tell, as far as a user says it.
public struct StateDictHints: Sendable {
  /// The number of heads. Another model must have as many.
  public var heads: Int?
  /// The family, where names are not to tell it. Another model must be of it.
  public var family: ModelFamily?
  /// Keys of a config.json; for state dicts only.
  public var keys: ModelKeys?
  /// Whether keys that do not fit the state dict are passed over, and all of them for other models: they then describe
  /// a model that is to be made from it.
  public var keysMayNotFit = false

  public init(
    heads: Int? = nil, family: ModelFamily? = nil, keys: ModelKeys? = nil, keysMayNotFit: Bool = false
  ) {
    (self.heads, self.family, self.keys, self.keysMayNotFit) = (heads, family, keys, keysMayNotFit)
  }
}

/// A model that has been read.
public struct LoadedModel: Sendable {
  public let configuration: ModelConfiguration
  /// Nil for a published name, and where only the description was asked for.
  public let weights: Weights?
  /// What was passed over or assumed, one line each, for the user.
  public let notes: [String]
  /// How the family of a state dict was told, such as "as its trainer's model is SiT-XL/2"; nil for all other models.
  public var familyReason: String?
}

/// What a word that stands for a model means: a model directory, a diffusers directory, a state dict, or a published name.
public enum ModelReference: Equatable, Sendable {
  /// A directory with config.json: a model's, or a transformer's alone as diffusers writes it; or a checkpoint of
  /// diffusers' training scripts.
  case directory(String)
  /// A pipeline's directory as diffusers writes it, with model_index.json.
  case diffusers(String)
  /// A safetensors file or a torch `.pt` with the names of a family (plain, or a training checkpoint); sizes are read from
  /// its shapes. A folder with JiT's `checkpoint-last.pth` stands for that file.
  case stateDict(String)
  /// `DiT-S/2` … `DiT-XL/8`, `DiT-Base/8` … `DiT-Large/32`, `JiT-B/16` … `pMF-H/32`: a configuration without weights.
  case published(String)

  /// Reads the word. A published name wins over a path of that spelling, which can be written `./DiT-S/2`.
  ///
  /// - Throws: `DiTError` when it is not a published name and there is nothing at that path.
  public init(_ argument: String) throws(DiTError) {
    if ModelConfiguration(published: argument) != nil {
      self = .published(argument)
      return
    }
    guard !argument.isEmpty, FileStatus.exists(argument) else {
      throw DiTError(file: argument, .missing)
    }
    let isDirectory = FileStatus.exists(Paths.join(argument, "."))
    let checkpoint = Paths.join(argument, Self.trainersCheckpoint)
    if isDirectory, FileStatus.exists(checkpoint),
      !FileStatus.exists(Paths.join(argument, ModelDirectory.configurationFile))
    {
      self = .stateDict(checkpoint)
      return
    }
    self =
      !isDirectory
      ? .stateDict(argument) : DiffusersDirectory.isPipeline(argument) ? .diffusers(argument) : .directory(argument)
  }

  /// The path or the name.
  private var word: String {
    switch self {
    case .directory(let word), .diffusers(let word), .stateDict(let word), .published(let word): word
    }
  }

  /// What JiT's trainer calls its file.
  static let trainersCheckpoint = "checkpoint-last.pth"

  /// The configuration; weights are not read, but for those of a diffusers directory that say whether its blocks share
  /// their embedders.
  ///
  /// - Parameter hints: what a state dict's shapes cannot tell.
  /// - Throws: `DiTError`.
  public func configuration(hints: StateDictHints = StateDictHints()) throws -> ModelConfiguration {
    try open(hints: hints).configuration.model
  }

  /// The configuration and the weights; these are nil for a published name.
  ///
  /// - Throws: as ``configuration(hints:)``, and `StateDictMismatch`.
  public func load(
    _ choice: WeightChoice = .emaPreferred, hints: StateDictHints = StateDictHints()
  ) throws -> LoadedModel {
    let model = try open(choice, hints: hints)
    return LoadedModel(
      configuration: model.configuration.model, weights: try model.weights(), notes: model.notes,
      familyReason: model.familyReason)
  }

  /// The configuration and what it assumes; weights are not read.
  ///
  /// - Throws: as ``configuration(hints:)``.
  public func described(hints: StateDictHints = StateDictHints()) throws -> LoadedModel {
    let model = try open(hints: hints)
    return LoadedModel(
      configuration: model.configuration.model, weights: nil, notes: model.notes, familyReason: model.familyReason)
  }

  /// A model whose configuration has been read and checked.
  struct Opened {
    let configuration: CheckedConfiguration
    /// What was passed over or assumed.
    var notes: [String] = []
    var familyReason: String?
    /// Reads the weights; nil for a published name.
    let weights: () throws -> Weights?
  }

  /// Reads and checks the configuration, once.
  ///
  /// - Throws: as ``configuration(hints:)``.
  func open(_ choice: WeightChoice = .emaPreferred, hints: StateDictHints) throws -> Opened {
    let heads = hints.heads
    if let keys = hints.keys, !hints.keysMayNotFit {
      if case .stateDict = self {
      } else {
        throw DiTError(
          file: keys.file, .entry("model"), expected: "a state dict, of which it says what shapes do not tell",
          found: "a model that has a configuration of its own")
      }
    }
    let opened = try opened(choice, hints, heads)
    if let family = hints.family, family != opened.configuration.model.family {
      throw DiTError(
        file: word, .key("family"), expected: "\(opened.configuration.model.family.rawValue), as the model says",
        found: family.rawValue)
    }
    return opened
  }

  private func opened(_ choice: WeightChoice, _ hints: StateDictHints, _ heads: Int?) throws -> Opened {
    switch self {
    case .directory(let path):
      if DiffusersDirectory.isCheckpoint(path) {
        return try Self.opened(DiffusersDirectory(contentsOf: path, choice.ofDiffusers(path)), heads)
      }
      let file = Paths.join(path, ModelDirectory.configurationFile)
      let reader = try ModelDirectory.readConfiguration(in: path)
      if DiffusersDirectory.isTransformer(reader) {
        return try Self.opened(
          DiffusersDirectory(transformer: path, configuration: reader, choice.ofDiffusers(path)), heads)
      }
      let directory = try ModelDirectory(path, configuration: reader)
      try Self.check(directory.checked, heads: heads, file)
      return Opened(configuration: directory.checked) { try directory.weights(choice) }
    case .diffusers(let path):
      return try Self.opened(DiffusersDirectory(contentsOf: path, choice.ofDiffusers(path)), heads)
    case .stateDict(let path):
      let file = try StateDictFile(contentsOf: path, tree: choice.tree)
      return try Self.opened(PublishedOrder.named(file.store), file.arguments, hints)
    case .published(let name):
      guard let model = ModelConfiguration(published: name) else { throw DiTError(file: name, .missing) }
      let configuration = try CheckedConfiguration(model, file: name)
      try Self.check(configuration, heads: heads, name)
      return Opened(configuration: configuration) { nil }
    }
  }

  private static func opened(_ directory: DiffusersDirectory, _ heads: Int?) throws -> Opened {
    let configuration = try directory.checked()
    try check(configuration, heads: heads, directory.path)
    return Opened(configuration: configuration, notes: directory.notes) { try directory.weights() }
  }

  private static func opened(
    _ store: any TensorStore, _ arguments: ProgramArguments, _ hints: StateDictHints
  ) throws -> Opened {
    let stated =
      hints.family
      ?? hints.keys?.family.flatMap { family in
        !hints.keysMayNotFit || FamilyNames.areNames(store, of: family) ? family : nil
      }
    let names = try FamilyNames(store, stated: stated, arguments: arguments)
    let keys = hints.keysMayNotFit ? hints.keys?.fitting(names.store) : hints.keys
    let configuration = try StateDictConfiguration(
      names, arguments: arguments, heads: hints.heads, keys: keys)
    let network = configuration.checked.model.network
    let told = names.family == .dit ? [] : ["\(store.path): read as \(names.family.summary), \(names.reason)"]
    return Opened(
      configuration: configuration.checked, notes: told + names.notes + configuration.notes, familyReason: names.reason
    ) {
      try Weights(names.store, configuration: network)
    }
  }

  private static func check(
    _ configuration: CheckedConfiguration, heads: Int?, _ file: String
  ) throws(DiTError) {
    let own = configuration.model.network.numHeads
    guard heads == nil || heads == own else {
      throw DiTError(file: file, .argument("heads"), expected: "\(own), as the model has", found: "\(heads ?? 0)")
    }
  }
}
