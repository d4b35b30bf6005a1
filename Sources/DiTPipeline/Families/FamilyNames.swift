import DiTAutoencoder
import DiTFiles
import DiTModel
import DiTTensor

/// The tensors of a family's state dict by the names that the engine gives them; wrappers' prefixes are gone already.
///
/// The names of JiT, SiT and LightningDiT are the engine's. JiT's conversion for diffusers has a layer fewer in some; pMF keeps
/// q, k, v and SwiGLU's two halves apart, and has a second head that only training uses. REPA has projectors that only training
/// uses, LightningDiT the tables that q and k turn by, REPA-E the statistics of its latents.
struct FamilyNames {
  let family: ModelFamily
  /// What told the family, for the user.
  let reason: String
  let store: any TensorStore
  /// The same with all that the file has.
  let original: any TensorStore
  /// What was passed over, one line each.
  let notes: [String]
  /// What REPA-E's latents are standardized by.
  private(set) var statistics: LatentStatistics?

  /// - Parameters:
  ///   - stated: the family that the user states; nil where names and arguments are to tell.
  ///   - arguments: what stands beside a training checkpoint's state dicts.
  /// - Throws: `DiTError` where the names are not those of the stated family, or a process is not; as reading a tensor
  ///   does.
  init(_ store: any TensorStore, stated: ModelFamily?, arguments: ProgramArguments = ProgramArguments()) throws {
    original = store
    let names = Set(store.keys.map(\.name))
    let (byNames, sign) = Self.family(of: names)
    let byArguments = byNames == .dit ? TransportArguments.family(arguments) : nil
    let told = byArguments?.family ?? byNames
    family = stated ?? told
    reason = stated == nil ? "as \(byArguments?.sign ?? sign)" : "as is stated"
    guard family == told || family == .dit || Self.shareNames(family, byNames) else {
      throw DiTError(
        file: store.path, .key("family"), expected: "tensors of \(family.rawValue)",
        found: "those of \(told.rawValue), as \(byArguments?.sign ?? sign)")
    }
    switch family {
    case .dit: (self.store, notes) = (store, [])
    case .sit, .repa, .lightningdit:
      try TransportArguments.check(arguments, file: store.path)
      let joined = JoinedTensors(store) { Self.isForTrainingAlone($0) ? .nowhere : .one($0) }
      self.store = joined
      notes = Self.notes(joined)
      statistics = try Self.statistics(store)
    case .jit:
      let joined = JoinedTensors(store) { name in .one(Self.jit(name)) }
      (self.store, notes) = (joined, [])
    case .pmf:
      let shared = Self.count(names, "shared_blocks")
      let joined = JoinedTensors(store) { Self.pmf($0, shared: shared) }
      self.store = joined
      notes = Self.notes(joined)
    }
  }

  /// Whether the tensors may be a network's of the family.
  static func areNames(_ store: any TensorStore, of family: ModelFamily) -> Bool {
    let (told, _) = self.family(of: Set(store.keys.map(\.name)))
    return family == told || shareNames(family, told)
  }

  private static func notes(_ joined: JoinedTensors) -> [String] {
    let left = joined.left
    guard !left.isEmpty else { return [] }
    return ["\(joined.path): the network has no use for \(left.count) tensors, which are passed over: \(words(left))"]
  }

  /// Whether a network of the family may have names that tell another one: SiT's, REPA's and LightningDiT's without SwiGLU and
  /// rotation are DiT's, and REPA's has projectors beside them.
  private static func shareNames(_ family: ModelFamily, _ told: ModelFamily) -> Bool {
    [.sit, .repa, .lightningdit].contains(family) && [.dit, .repa].contains(told)
  }

  /// Whether a tensor is no part of a network of SiT's form.
  private static func isForTrainingAlone(_ name: String) -> Bool {
    ["projectors.", "feat_rope.", "bn."].contains { name.hasPrefix($0) }
  }

  /// Means and deviations of REPA-E's batch normalization, as its sampling undoes it: without the ε of training.
  private static func statistics(_ store: any TensorStore) throws -> LatentStatistics? {
    let (mean, variance) = ("bn.running_mean", "bn.running_var")
    guard store.shape(of: mean) != nil, store.shape(of: variance) != nil else { return nil }
    let variances = try LatentStatistics.numbers(variance, of: store)
    let found = LatentStatistics(
      mean: try LatentStatistics.numbers(mean, of: store), std: variances.map { Double($0).squareRoot() })
    guard let problem = found.problem else { return found }
    throw DiTError(
      file: store.path, .tensor(problem.part == "mean" ? mean : variance), expected: problem.expected,
      found: problem.found)
  }

  /// The family whose names these are, and the name that told.
  private static func family(of names: Set<String>) -> (ModelFamily, String) {
    if let final = names.first(where: { $0.hasPrefix("u_final_layer.") }) {
      return (.pmf, "it has \(final.split(separator: ".")[0])")
    }
    if names.contains("x_embedder.proj1.weight"), !names.contains("x_embedder.proj1.bias"),
      names.contains("in_context_posemb")
    {
      return (.jit, "it has in_context_posemb, and x_embedder.proj1 without a bias")
    }
    for name in ["feat_rope.freqs_cos", "blocks.0.mlp.w12.weight"] where names.contains(name) {
      return (.lightningdit, "it has \(name)")
    }
    if names.contains(where: { $0.hasPrefix("projectors.") }) { return (.repa, "it has projectors") }
    if names.contains("bn.running_mean") { return (.repa, "it has bn.running_mean, as REPA-E") }
    return (.dit, "nothing says otherwise (plain files of SiT and REPA have the same names: --family sit, repa)")
  }

  private static func count(_ names: Set<String>, _ prefix: String) -> Int {
    (0...).first { index in !names.contains { $0.hasPrefix("\(prefix).\(index).") } } ?? 0
  }

  private static func words(_ names: [String]) -> String {
    Set(names.map { String($0.split(separator: ".")[0]) }).sorted().joined(separator: ", ")
  }

  /// JiT's own name of a tensor of its conversion for diffusers; all others as they are.
  private static func jit(_ name: String) -> String {
    for (converted, own) in [
      ("norm_final.", "final_layer.norm_final."), ("linear_final.", "final_layer.linear."),
      ("adaLN_modulation_final.", "final_layer.adaLN_modulation.1."),
    ] where name.hasPrefix(converted) {
      return own + name.dropFirst(converted.count)
    }
    let words = name.split(separator: ".", omittingEmptySubsequences: false)
    guard words.count == 4, words[0] == "blocks", words[2] == "adaLN_modulation" else { return name }
    return "blocks.\(words[1]).adaLN_modulation.1.\(words[3])"
  }

  /// Where a tensor of pMF's goes.
  private static func pmf(_ name: String, shared: Int) -> JoinedTensors.Place {
    var words = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    words.removeAll { $0 == "_flax_linear" || $0 == "_flax_embedding" }
    guard let first = words.first else { return .one(name) }  // a name of nothing but such words
    switch first {
    case "v_heads", "v_final_layer", "rope_freqs": return .nowhere
    case "u_final_layer":
      words[0] = "final_layer"
      if words.count > 1, words[1] == "norm" { words[1] = "norm_final" }
    case "shared_blocks": words[0] = "blocks"
    case "u_heads":
      words[0] = "blocks"
      if words.count > 1, let index = Int(words[1]) { words[1] = "\(index + shared)" }
    default: break
    }
    guard words.count > 3, words[0] == "blocks" else { return .one(words.joined(separator: ".")) }
    let parts = ["q_proj": ("qkv", 0), "k_proj": ("qkv", 1), "v_proj": ("qkv", 2), "w1": ("w12", 0), "w3": ("w12", 1)]
    if let (whole, part) = parts[words[3]] {
      words[3] = whole
      return .part(words.joined(separator: "."), part)
    }
    words[3] = ["out_proj": "proj", "w2": "w3"][words[3]] ?? words[3]
    return .one(words.joined(separator: "."))
  }
}

/// Another store's tensors by other names, some of them rows of several put together.
struct JoinedTensors: TensorStore {
  /// Where a tensor goes.
  enum Place: Equatable {
    case one(String)
    /// The rows of part 0, 1, … of a tensor.
    case part(String, Int)
    case nowhere
  }

  let path: String
  let keys: [StateDict.Key]
  /// What goes nowhere.
  let left: [String]
  private let base: any TensorStore
  /// The names in `base`, in the order of the parts.
  private let sources: [String: [String]]

  init(_ base: any TensorStore, _ place: (String) -> Place) {
    var (order, parts, left): ([String], [String: [(Int, StateDict.Key)]], [String]) = ([], [:], [])
    for key in base.keys {
      let (name, part): (String, Int)
      switch place(key.name) {
      case .one(let one): (name, part) = (one, 0)
      case .part(let whole, let number): (name, part) = (whole, number)
      case .nowhere:
        left.append(key.name)
        continue
      }
      if parts[name] == nil { order.append(name) }
      parts[name, default: []].append((part, key))
    }
    // Parts whose rows do not fit together stay what they are, so that they are named where they are missed.
    for (name, found) in parts where Set(found.map { Array($0.1.shape.dropFirst()) }).count > 1 {
      parts[name] = nil
      order.removeAll { $0 == name }
      for (_, key) in found {
        order.append(key.name)
        parts[key.name] = [(0, key)]
      }
    }
    let sorted = parts.mapValues { $0.sorted { $0.0 < $1.0 }.map(\.1) }
    path = base.path
    self.base = base
    self.left = left
    keys = order.map { name in
      let keys = sorted[name] ?? []
      let rows = keys.reduce(0) { $0 + ($1.shape.first ?? 0) }
      return (name: name, shape: keys.count == 1 ? keys[0].shape : [rows] + keys[0].shape.dropFirst())
    }
    sources = sorted.mapValues { $0.map(\.name) }
  }

  func shape(of name: String) -> [Int]? { keys.first { $0.name == name }?.shape }

  func slice(_ name: String) throws -> FloatSlice { try parts(name).slice }

  func parts(_ name: String) throws -> TensorParts {
    TensorParts(joining: try (sources[name] ?? [name]).map { try base.parts($0) })
  }
}
