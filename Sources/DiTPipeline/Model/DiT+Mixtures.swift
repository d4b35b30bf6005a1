import DiTModel
import DiTTensor

extension DiT {
  /// The same model with classes of its own between others: interpolation of what images are conditioned by.
  ///
  ///     let between = try model.addingMixtures([[3: 0.5, 8: 0.5], [3: 0.2, 8: 0.8]])
  ///     let samples = try between.sample(.classes([3, 10, 11, 8]))  // of ten classes: 3, the two mixtures, 8
  ///
  /// A mixture's embedding is the sum of its classes' learned embeddings, each times its weight. Weights usually add up to 1;
  /// other sums go beyond what was trained. The new model shares the weights' memory, not what is packed of them: keep one of
  /// the two. Texts and pictures are mixed by ``Condition/embeddings(_:classes:)``.
  ///
  /// - Parameter mixtures: for each new class `num_classes`, `num_classes` + 1, … the classes (`num_classes` is the null class)
  ///   and their weights, finite.
  /// - Throws: `DiTError` (`classes`) for a model without classes, an empty mixture, a class that is none, and a weight that
  ///   is not finite.
  public func addingMixtures(_ mixtures: [[Int: Double]]) throws(DiTError) -> DiT {
    let c = configuration.network
    guard c.numClasses > 0 else {
      throw DiTError(
        argument: "classes", expected: "none, as the model is unconditional", found: "\(mixtures.count) mixtures")
    }
    for mixture in mixtures {
      guard !mixture.isEmpty else {
        throw DiTError(argument: "classes", expected: "at least one class in a mixture", found: "none")
      }
      for (label, weight) in mixture {
        guard 0..<c.labelRows ~= label else {
          throw DiTError(argument: "classes", expected: "0…\(c.labelRows - 1)", found: "\(label)")
        }
        guard weight.isFinite else {
          throw DiTError(argument: "classes", expected: "finite weights", found: "\(weight) of class \(label)")
        }
      }
    }
    let sums = mixtures.map { $0.sorted { $0.key < $1.key }.map { (row: $0.key, weight: $0.value) } }
    let (weights, larger) = network.weights.adding(sums, to: c)
    if let bad = weights.firstMixtureNotFinite(from: c.numClasses, count: mixtures.count) {
      throw DiTError(argument: "classes", expected: "finite sums of embeddings", found: "others in mixture \(bad)")
    }
    var model = configuration
    model.network = larger
    model.classNames? += sums.map { sum in
      sum.map { "\($0.weight) \(configuration.className($0.row) ?? "\($0.row)")" }.joined(separator: " + ")
    }
    return try DiT(configuration: model, weights: weights, context: context, numerics: network.numerics)
  }
}
