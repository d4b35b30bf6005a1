import DiTFiles
import DiTModel
import DiTTensor

/// The tensors of a family's state dict by the names that the engine gives them; wrappers' prefixes are gone already.
///
/// JiT's own names are the engine's. Its conversion for diffusers has a layer fewer in some; pMF keeps q, k, v and SwiGLU's
/// two halves apart, and has a second head that only training uses.
struct FamilyNames {
  let family: ModelFamily
  /// What told the family, for the user.
  let reason: String
  let store: any TensorStore
  /// What was passed over, one line each.
  let notes: [String]

  /// - Parameter stated: the family that the user states; nil where the names are to tell.
  /// - Throws: ``ModelFileError`` where the names are not those of the stated family.
  init(_ store: any TensorStore, stated: ModelFamily?) throws(ModelFileError) {
    let names = Set(store.keys.map(\.name))
    let (told, sign) = Self.family(of: names)
    family = stated ?? told
    reason = stated == nil ? "as \(sign)" : "as --family says"
    guard family == told || family == .dit else {
      throw ModelFileError(
        file: store.path, item: "family", expected: "tensors of \(family.rawValue)",
        found: "those of \(told.rawValue), as \(sign)")
    }
    switch family {
    case .dit: (self.store, notes) = (store, [])
    case .jit:
      let joined = JoinedTensors(store) { name in .one(Self.jit(name)) }
      (self.store, notes) = (joined, [])
    case .pmf:
      let shared = Self.count(names, "shared_blocks")
      let joined = JoinedTensors(store) { Self.pmf($0, shared: shared) }
      let left = joined.left
      self.store = joined
      notes =
        left.isEmpty
        ? []
        : [
          "\(store.path): sampling has no use for \(left.count) tensors, which are passed over: \(Self.words(left))"
        ]
    }
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
    return (.dit, "nothing says otherwise")
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

  func slice(_ name: String) throws -> FloatSlice {
    guard let names = sources[name], names.count > 1 else { return try base.slice(sources[name]?[0] ?? name) }
    let slices = try names.map { try base.slice($0) }
    let joined = MutableFloatSlice(zeros: slices.reduce(0) { $0 + $1.count })
    var start = 0
    for slice in slices {
      joined[start..<start + slice.count].copy(from: slice.span)
      slice.releasePages()
      start += slice.count
    }
    return joined.reading
  }
}
