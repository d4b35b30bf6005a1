import DiTTensor

extension Weights {
  /// The same weights with more classes, behind those that there are and before the null class: each one's row of every label
  /// table is a sum of rows, computed in Double. All other tensors are shared.
  ///
  /// - Parameter mixtures: for each new class the rows, the null class's allowed, and what they count.
  /// - Returns: the weights, whose table is of a network with so many more classes.
  /// - Precondition: `configuration` is the network's, and has classes; rows are below its `labelRows`.
  package func adding(
    _ mixtures: [[(row: Int, weight: Double)]], to configuration: DiTConfiguration
  ) -> (weights: Weights, configuration: DiTConfiguration) {
    var larger = configuration
    larger.numClasses += mixtures.count
    var parts = parts
    let d = configuration.hiddenSize
    for embedder in table.conditioning.embedders {
      guard let index = embedder.labels else { continue }
      let published = slices[index]
      let old = published.span
      let new = MutableFloatSlice(zeros: larger.labelRows * d)
      var rows = new.mutableSpan
      for row in 0..<configuration.labelRows {
        let target = row < configuration.numClasses ? row : row + mixtures.count
        for i in 0..<d { rows[target * d + i] = old[row * d + i] }
      }
      for (number, mixture) in mixtures.enumerated() {
        for i in 0..<d {
          let sum = mixture.reduce(0.0) { $0 + $1.weight * Double(old[$1.row * d + i]) }
          rows[(configuration.numClasses + number) * d + i] = Float(sum)
        }
      }
      parts[index] = TensorParts(new.reading)
    }
    return (Weights(ParameterTable(larger), parts: parts), larger)
  }

  /// The first of the `count` rows from class `first` on that is not finite in a label table, counted from 0; nil where none is.
  package func firstMixtureNotFinite(from first: Int, count: Int) -> Int? {
    (0..<count).first { number in
      table.conditioning.embedders.contains { embedder in
        guard let index = embedder.labels else { return false }
        let (rows, d) = (slices[index], table.parameters[index].shape[1])
        return rows[(first + number) * d..<(first + number + 1) * d].span.firstNotFinite != nil
      }
    }
  }
}
