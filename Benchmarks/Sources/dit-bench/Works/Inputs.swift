import DiTEngine

/// A batch of N images: what goes into the network, and for training what should come out.
struct Inputs {
  let samples: Int
  /// x, (N, C, H, W).
  let images: FloatSlice
  /// What the network is told, (N, numbers per image): t, or omega, t_min, t_max, h of pMF's.
  var times: [Float]
  /// y, (N); none for an unconditional network.
  let labels: [Int]
  /// (N, C, H, W).
  let target: FloatSlice?
}

extension Inputs {
  /// A drawn batch: images and target of unit variance, different times and labels.
  init(_ configuration: DiTConfiguration, samples: Int) {
    var random = Philox(seed: 2)
    self.samples = samples
    images = FloatSlice(random.normal(count: samples * configuration.imageElements))
    times = (0..<samples).map { Float(100 + 37 * $0 % 800) }
    labels = configuration.numClasses > 0 ? (0..<samples).map { $0 % configuration.numClasses } : []
    target = FloatSlice(random.normal(count: samples * configuration.imageElements))
  }

  /// The tensors x, t, y and, if it is there, target of a safetensors file.
  ///
  /// - Throws: `DiTError`; ``BenchError`` for another shape, or labels that the network has not.
  init(contentsOf path: String, _ configuration: DiTConfiguration, samples: Int) throws {
    let file = try SafetensorsFile(contentsOf: path)
    let c = configuration
    func require(_ name: String, _ shape: [Int], _ expected: [Int]) throws {
      guard shape == expected else {
        throw BenchError("\(path): tensor \(name): expected shape \(expected), found \(shape)")
      }
    }
    func images(_ name: String) throws -> FloatSlice {
      let tensor = try file.tensor(name)
      try require(name, tensor.shape, [samples, c.inChannels, c.inputHeight, c.inputWidth])
      return FloatSlice(tensor.elements)
    }
    self.samples = samples
    self.images = try images("x")
    // In the order of the network's inputs; omega is embedded as 1 − 1/ω.
    let told = c.timeInputs == 1 ? ["t"] : ["w", "t_min", "t_max", "h"]
    let numbers = try told.map { name in
      let numbers = try file.numbers(name)
      try require(name, numbers.shape, [samples])
      return name == "w" ? numbers.elements.map { 1 - 1 / $0 } : numbers.elements
    }
    times = (0..<samples).flatMap { n in numbers.map { $0[n] } }
    let labels = c.labelRows > 0 ? try file.integers("y") : (shape: [samples], values: [])
    try require("y", labels.shape, [samples])
    for label in labels.values where !(0..<c.labelRows ~= label) {
      throw BenchError("\(path): tensor y: expected labels in 0…\(c.labelRows - 1), found \(label)")
    }
    self.labels = labels.values
    target = file.entry(named: "target") == nil ? nil : try images("target")
  }
}
