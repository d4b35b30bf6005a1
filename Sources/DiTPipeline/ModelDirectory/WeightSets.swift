import DiTFiles
import DiTModel

/// The sets of weights that a model has: those that were trained, and their moving averages.
package struct WeightSets: Sendable {
  package private(set) var trained: Weights?
  /// The average that sampling prefers.
  package private(set) var average: Weights?
  package private(set) var further: [(decay: Double, weights: Weights)] = []

  /// What was passed over, one line each, for the user.
  package private(set) var notes: [String] = []

  /// JiT's second average, and its decay where a checkpoint does not say.
  private static let (second, secondDecay) = ("model_ema2", 0.9996)

  init(trained: Weights?) { self.trained = trained }

  /// All that the model which `reference` stands for has; of a diffusers directory the preferred set.
  ///
  /// A file of averages does not say their decays, but for JiT's: of another trainer's the preferred one alone is taken, with
  /// a note.
  /// - Throws: as ``ModelReference/load(_:hints:)``.
  package init(_ reference: ModelReference, hints: StateDictHints) throws {
    switch reference {
    case .directory(let path) where ModelDirectory.isModel(path):
      try take(ModelDirectory(contentsOf: path))
    case .stateDict(let path):
      let file = try StateDictFile(contentsOf: path)
      let averages = file.trees.compactMap { tree in tree.first { StateDictTrees.isAverage($0) } }
      let hasTrained = averages.count < file.trees.count
      func load(_ choice: WeightChoice) throws -> Weights? { try reference.load(choice, hints: hints).weights }
      trained = averages.isEmpty || hasTrained ? try load(averages.isEmpty ? .emaPreferred : .model) : nil
      average = try averages.first.flatMap { try load(.named($0)) }
      for word in averages.dropFirst() {
        guard word == Self.second, further.isEmpty else {
          notes.append("\(path): \(word) is passed over, as the file does not say its decay")
          continue
        }
        guard let weights = try load(.named(word)) else { continue }
        further.append((file.arguments.real("ema_decay2") ?? Self.secondDecay, weights))
      }
    default: trained = try reference.load(hints: hints).weights
    }
  }

  private mutating func take(_ directory: ModelDirectory) throws {
    let names = try Directory.names(directory.path)
    trained = names.contains(ModelDirectory.modelFile) ? try directory.weights(.model) : nil
    average = names.contains(ModelDirectory.emaFile) ? try directory.weights(.ema) : nil
    further = try names.compactMap(ModelDirectory.averageDecay).sorted(by: >).map { decay in
      (decay, try directory.weights(averagedWith: decay))
    }
  }
}
