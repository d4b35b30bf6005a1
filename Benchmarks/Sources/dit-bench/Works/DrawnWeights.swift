import DiTEngine

extension Weights {
  /// A new network's weights, disturbed so that no product is with zeros alone.
  static func drawn(_ configuration: DiTConfiguration) -> Weights {
    let (weights, flat) = initialized(configuration, seed: 1)
    var random = Philox(seed: 3)
    for parameter in weights.table.trainableParameters {
      let slice = flat[parameter.range]
      var values = slice.mutableSpan
      for index in stride(from: 0, to: values.count, by: 3) { values[index] += 0.02 * (random.uniform() - 0.5) }
    }
    return weights
  }

  /// The same tensors for a network of another input size or of fewer blocks; the position table is computed anew where
  /// its size differs.
  func fitted(to configuration: DiTConfiguration) -> Weights {
    let table = ParameterTable(configuration)
    let known = Dictionary(uniqueKeysWithValues: zip(self.table.parameters.map(\.name), slices))
    let slices = table.parameters.map { parameter in
      if let slice = known[parameter.name], slice.count == parameter.count { return slice }
      let computed = MutableFloatSlice(zeros: parameter.count)
      parameter.initialize(computed, configuration, seed: 0, stream: 0)
      return computed.reading
    }
    return Weights(table, slices: slices)
  }

  /// Bytes of all tensors as float32.
  var byteCount: Int { table.parameterCount * MemoryLayout<Float>.stride }
}
