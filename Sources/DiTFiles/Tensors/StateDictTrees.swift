import DiTTensor

/// Which tree of a checkpoint is read.
public enum TreeChoice: Equatable, Sendable {
  /// A moving average where there is one, else the trained weights.
  case averagePreferred
  /// A moving average.
  case average
  /// The trained weights.
  case trained
  /// The first of these keys that the checkpoint has.
  case named([String])
  /// No tree: the tensors of the file's own dictionary, by the names that they have there.
  case whole
}

/// The state dicts of a checkpoint, told by their names.
///
/// Programs that train wrap a network, and keep it in dictionaries: `model.module.x_embedder.proj.weight` and
/// `{"model": {"module.x_embedder.proj.weight": …}}` are one and the same here. Names are words between dots. Where the
/// first word of every name is one of ``averages`` or ``trained``, it is the name of a tree, or of a wrapper around one, and
/// not of a layer; what is left is looked at again. So wrappers are taken off in any order and depth, in each tree by
/// itself. Words that wrappers put inside names are taken out everywhere.
package enum StateDictTrees {
  /// A state dict.
  struct Tree {
    /// The words taken off, the outermost first.
    let path: [String]
    /// Its tensors: the name that is left, and the tensor's place among all.
    var items: [(name: String, index: Int)]
    /// Whether one of the words says that it is a moving average.
    var isAverage: Bool { path.contains { StateDictTrees.averages.contains($0) } }
  }

  /// Words for a moving average of the weights, the preferred one first.
  static let averages = [
    "ema", "ema_state_dict", "model_ema", "ema_model", "model_ema1", "model_ema2", "ema_model_state_dict",
    "model_ema_state_dict", "state_dict_ema", "ema_net", "net_ema", "ema_weights", "params_ema", "averaged_model",
    "swa_model", "shadow_params",
  ]

  /// Words for the weights themselves, and for what wraps a network: DDP and DeepSpeed (`module`), torch.compile
  /// (`_orig_mod`), FSDP, Lightning, and the names that programs give it.
  static let trained = [
    "model", "state_dict", "model_state_dict", "module", "net", "network", "online_model", "weights", "params",
    "model_state",
    "dit", "transformer", "denoiser", "diffusion_model", "backbone", "_orig_mod", "_forward_module",
    "_fsdp_wrapped_module",
    "vae", "autoencoder",
  ]

  /// Words that stand inside names, around a part that is wrapped by itself.
  private static let insideNames: Set<String> = [
    "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module",
  ]

  /// Counters that wrappers keep beside the weights.
  private static let counters: Set<String> = [
    "n_averaged", "initted", "step", "num_updates", "decay", "epoch", "global_step", "iteration",
  ]

  /// No wrapper is deeper.
  static let maximumDepth = 16

  /// Whether a word says that weights are a moving average.
  package static func isAverage(_ word: String) -> Bool { averages.contains(word) }

  static func isWord(_ word: some StringProtocol) -> Bool { words.contains(String(word)) }

  private static let words = Set(averages + trained)

  /// The state dicts among tensors of these names, the preferred one first.
  static func trees(of names: [String]) -> [Tree] {
    var trees: [Tree] = []
    let items = Array(withoutInnerWrappers(names).enumerated().map { (name: $1, index: $0) })
    collect(items, path: [], into: &trees)
    return restoringDots(trees)
  }

  /// The tree that is asked for; nil where there is none.
  static func chosen(_ choice: TreeChoice, of trees: [Tree]) -> Tree? {
    switch choice {
    case .averagePreferred: trees.first { $0.isAverage } ?? trees.first
    case .average: trees.first { $0.isAverage }
    case .trained: trees.first { !$0.isAverage }
    case .named(let words):
      words.lazy.compactMap { word in trees.first { $0.path.contains(word) } }.first
    case .whole: trees.first
    }
  }

  private static func collect(_ items: [(name: String, index: Int)], path: [String], into trees: inout [Tree]) {
    let tensors = items.filter { !counters.contains($0.name) }
    var parts: [Substring: [(name: String, index: Int)]] = [:]
    var isWrapped = !tensors.isEmpty && path.count < maximumDepth
    for (name, index) in tensors where isWrapped {
      guard let dot = name.firstIndex(of: "."), isWord(name[..<dot]) else {
        isWrapped = false
        break
      }
      parts[name[..<dot], default: []].append((String(name[name.index(after: dot)...]), index))
    }
    guard isWrapped else {
      trees.append(Tree(path: path, items: path.isEmpty || tensors.isEmpty ? items : tensors))
      return
    }
    for word in averages + trained {
      if let part = parts[Substring(word)] { collect(part, path: path + [word], into: &trees) }
    }
  }

  /// The names without words that stand inside them; as they are where two would become the same.
  private static func withoutInnerWrappers(_ names: [String]) -> [String] {
    guard
      names.contains(where: {
        $0.utf8.contains(UInt8(ascii: "_")) && $0.contains("_module") || $0.contains("_orig_mod")
      })
    else { return names }
    let plain = names.map { name in
      name.split(separator: ".", omittingEmptySubsequences: false).filter { !insideNames.contains(String($0)) }
        .joined(separator: ".")
    }
    return Set(plain.map { ExactName($0) }).count == plain.count && !plain.contains("") ? plain : names
  }

  /// Averages whose names lost their dots, as CompVis's LitEma writes them, get those of the weights beside them.
  private static func restoringDots(_ trees: [Tree]) -> [Tree] {
    guard trees.contains(where: { $0.isAverage }), let trained = trees.first(where: { !$0.isAverage }) else {
      return trees
    }
    let names = Dictionary(
      trained.items.map { ($0.name.filter { $0 != "." }, $0.name) }, uniquingKeysWith: { _, _ in "" })
    return trees.map { tree in
      guard tree.isAverage, !tree.items.contains(where: { $0.name.contains(".") }),
        tree.items.allSatisfy({ names[$0.name, default: ""] != "" })
      else { return tree }
      return Tree(path: tree.path, items: tree.items.map { (names[$0.name] ?? $0.name, $0.index) })
    }
  }
}

/// The tensors of another store by other names: a tree of it.
struct RenamedTensors: TensorStore {
  let path: String
  let keys: [StateDict.Key]
  private let base: any TensorStore
  /// The names in `base`.
  private let originals: [ExactName: String]

  fileprivate init(_ base: any TensorStore, _ tree: StateDictTrees.Tree) {
    let keys = base.keys
    path = base.path
    self.base = base
    self.keys = tree.items.map { (name: $0.name, shape: keys[$0.index].shape) }
    originals = Dictionary(
      tree.items.map { (ExactName($0.name), keys[$0.index].name) }, uniquingKeysWith: { first, _ in first })
  }

  func shape(of name: String) -> [Int]? { originals[ExactName(name)].flatMap { base.shape(of: $0) } }

  func slice(_ name: String) throws -> FloatSlice { try base.slice(originals[ExactName(name)] ?? name) }
}

/// A state dict that has been found in a file or several.
package struct ChosenTree {
  /// Its tensors by the names that the network gives them.
  package let store: any TensorStore
  /// The words that were taken off their names.
  package let path: [String]
  package let isAverage: Bool

  /// The tree of a store's tensors that is asked for.
  ///
  /// - Throws: `DiTError` where there is none.
  package init(_ choice: TreeChoice, of store: any TensorStore) throws(DiTError) {
    let keys = store.keys
    let trees = StateDictTrees.trees(of: keys.map(\.name))
    guard let tree = StateDictTrees.chosen(choice, of: trees) else {
      throw DiTError(
        file: store.path, .argument("weights"), expected: choice.expectation, found: StateDictTrees.found(trees))
    }
    (path, isAverage) = (tree.path, tree.isAverage)
    let isWhole = tree.items.count == keys.count && zip(tree.items, keys).allSatisfy { $0.name == $1.name }
    self.store = isWhole ? store : RenamedTensors(store, tree)
  }
}

extension TreeChoice {
  /// What was expected, for errors.
  var expectation: String {
    switch self {
    case .average: "a training checkpoint or a model directory with ema"
    case .trained: "trained weights, under model or the like"
    case .named(let words): "a tree under \(words.joined(separator: " or "))"
    case .averagePreferred, .whole: "tensors"
    }
  }
}

extension StateDictTrees {
  /// What there is instead, for errors.
  static func found(_ trees: [Tree]) -> String {
    let paths = trees.filter { !$0.items.isEmpty }.map { $0.path.joined(separator: ".") }
    guard paths.contains(where: { !$0.isEmpty }) else { return trees.isEmpty ? "no tensors" : "a plain state dict" }
    return "weights under \(Message.list(paths) { $0 }) alone"
  }
}
