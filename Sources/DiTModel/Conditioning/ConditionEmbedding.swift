import DiTKernels
import DiTTensor

/// A time MLP and a label table, by index: E(t) = time2(silu(time0(freq(t)))), E_class(y) = table[y].
struct Embedder: Sendable {
  let time0, time2: LinearLayer
  /// No table without classes.
  let labels: Int?
  /// Which of a sample's numbers the MLP is given.
  let input: Int

  init(_ prefix: String, _ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    self.init(prefix + "t_embedder", labels: prefix + "y_embedder", input: 0, c, &b)
  }

  /// - Parameter labels: the label table's name; nil: none here.
  init(_ time: String, labels: String?, input: Int, _ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    let (d, drawn) = (c.hiddenSize, Parameter.Initialization.normal(deviation: 0.02))
    self.input = input
    time0 = b.linear("\(time).mlp.0", timeFrequencyCount, d, drawn)
    time2 = b.linear("\(time).mlp.2", d, d, drawn)
    self.labels = labels.flatMap {
      c.labelRows > 0 ? b.add("\($0).embedding_table.weight", [c.labelRows, d], drawn) : nil
    }
  }

  var layers: [LinearLayer] { [time0, time2] }
}

/// What embeds the numbers and the class that the network is told: one embedder, one for each block, or with `tokens` one for
/// each number, of which the first has the label table.
struct ConditionEmbedding: Sendable {
  let embedders: [Embedder]

  static func shared(_ c: DiTConfiguration, _ b: inout ParameterBuilder) -> [Embedder] {
    guard c.conditioning == .tokens, let groups = c.tokenGroups else { return [Embedder("", c, &b)] }
    let names = [
      (groups.omega, "omega_embedder"), (groups.tMin, "cfg_t_start_embedder"), (groups.tMax, "cfg_t_end_embedder"),
      (groups.time, "h_embedder"),
    ]
    return names.filter { $0.0 > 0 }.enumerated().map { place, name in
      Embedder(name.1, labels: place == 0 ? "y_embedder" : nil, input: place, c, &b)
    }
  }

  /// The embedder whose condition modulates the norms of block `index`; those of the final layer, at `depth`, have the
  /// first's.
  func embedder(ofNorms index: Int) -> Int { index < embedders.count ? index : 0 }
}
