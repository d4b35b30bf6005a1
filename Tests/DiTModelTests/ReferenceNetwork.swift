import DiTKernels
import DiTModel
import DiTTensor
import Foundation
import TestSupport

/// The network in Double as the paper, its variants' definitions and the state dict read: the oracle for every case that
/// has no fixture. It knows every option of `DiTConfiguration`, shares no code with the network but the Float32 time
/// features (`dit`, `diffusers`) and the sizes that the configuration derives (`mlpSize`, `conditionTokens`, `labelRows`,
/// `sequenceLength`), and is slow and plain.
///
/// Letters: N samples, T tokens of a sample (in-context ones, the sequence's, the image's), D hidden size.
struct ReferenceNetwork {
  let c: DiTConfiguration
  /// β_t and ᾱ_t, for attention that depends on the noise level.
  let noise: AttentionNoise
  /// Every tensor by name.
  var tensors: [String: [Double]]

  /// The conditioning sequence of one sample.
  enum Sequence: Equatable, Sendable {
    case text([UInt8])
    /// (C, h, w); nil is no image, a sequence that is all padding.
    case image([Float]?)
    /// (tokens, D).
    case embeddings([Float])
  }

  init(_ batch: Case, noise: AttentionNoise = .published) {
    let tensors = zip(batch.weights.table.parameters, batch.weights.slices).map { ($0.name, $1.array.doubles) }
    self.init(batch.configuration, tensors: Dictionary(uniqueKeysWithValues: tensors), noise: noise)
  }

  init(_ configuration: DiTConfiguration, tensors: [String: [Double]], noise: AttentionNoise = .published) {
    c = configuration
    self.noise = noise
    self.tensors = tensors
  }

  func tensor(_ name: String) -> [Double] {
    guard let tensor = tensors[name] else { preconditionFailure("no tensor \(name)") }
    return tensor
  }

  func linear(_ name: String, _ x: [Double], outputs: Int, hasBias: Bool = true) -> [Double] {
    let weight = tensor(name + ".weight")
    let inputs = weight.count / outputs
    let bias = hasBias ? tensor(name + ".bias") : [Double](repeating: 0, count: outputs)
    return Reference.linear(x, weight, bias, rows: x.count / inputs, inputs: inputs, outputs: outputs)
  }

  // MARK: The network

  /// (N, C', H, W).
  ///
  /// - Parameters:
  ///   - times: what the network is told of each sample: the time, or the numbers of the groups of tokens.
  ///   - sequence: one per sample, for a network that takes them.
  ///   - features: (N, 256), what the time MLP is given, where it is not to be computed.
  func output(
    _ images: [Double], _ times: [Float], _ labels: [Int], sequence: [Sequence]? = nil, features: [Double]? = nil
  ) -> [Double] {
    let (d, samples) = (c.hiddenSize, images.count / c.imageElements)
    let features = features ?? self.features(times)
    let conditions = (c.embedders == .shared ? [""] : (0..<c.depth).map { "blocks.\($0)." }).map {
      condition($0, features, labels)
    }
    let prefixes = sequence.map { $0.map(self.rows) }
    var x = patches(images, conditions[0])
    var first = 0
    for block in 0..<c.depth {
      if block == c.inContextStart {
        (x, first) = (joined(x, conditions[0], prefixes), c.conditionTokens + c.sequenceLength)
      }
      let name = "blocks.\(block)"
      let parts = c.conditioning == .adaLNZero ? 6 : 4
      let rows = modulation(name, conditions[block % conditions.count], parts: parts)
      // One tuple per half block: attention, MLP.
      let halves = ["attn_scale", "mlp_scale"].enumerated().map { half, gate in
        let row = { (part: Int) in rows.map { $0[half * parts / 2 + part] } }
        let own = c.residualGates == .vector ? tensor("\(name).\(gate)") : [Double](repeating: 1, count: d)
        return (
          modulation: row(0).flatMap { shift in row(1).map { (shift: shift, scale: $0) } },
          gate: parts == 6 ? row(2) ?? [] : (0..<samples).flatMap { _ in own }
        )
      }
      let all = first + c.tokens
      var h = norm("\(name).norm1", x, halves[0].modulation, epsilon: DiTConfiguration.publishedEpsilon)
      h = linear("\(name).attn.qkv", h, outputs: 3 * d, hasBias: c.bias.qkv)
      h = turned(normalized(h, name), prefix: first)
      let windows = self.windows(name, times, conditions[0].time, prefixes, prefix: first)
      let heads = Reference.Heads(samples: samples, tokens: all, heads: c.numHeads, size: c.headSize)
      h = linear("\(name).attn.proj", Reference.attention(h, heads, windows).out, outputs: d, hasBias: c.bias.proj)
      x = Reference.gated(x, h, gate: halves[0].gate, tokens: all, width: d)
      h = norm("\(name).norm2", x, halves[1].modulation, epsilon: c.norm2Epsilon)
      x = Reference.gated(x, feedForward("\(name).mlp", h), gate: halves[1].gate, tokens: all, width: d)
    }
    let all = first + c.tokens
    x = (0..<samples).flatMap { x[($0 * all + first) * d..<($0 + 1) * all * d] }
    let rows = modulation("final_layer", conditions[0], parts: 2).map { (shift: $0[0], scale: $0[1]) }
    let h = norm("final_layer.norm_final", x, rows, epsilon: DiTConfiguration.publishedEpsilon)
    return put(linear("final_layer.linear", h, outputs: c.patchSize * c.patchSize * c.outChannels), samples)
  }

  private func feedForward(_ name: String, _ x: [Double]) -> [Double] {
    let (d, size, hasBias) = (c.hiddenSize, c.mlpSize, c.bias.mlp)
    switch c.mlp {
    case .gelu:
      let hidden = linear("\(name).fc1", x, outputs: size, hasBias: hasBias).map(Reference.gelu)
      return linear("\(name).fc2", hidden, outputs: d, hasBias: hasBias)
    case .swiglu:
      let sums = linear("\(name).w12", x, outputs: 2 * size, hasBias: hasBias)
      let hidden = (0..<sums.count / 2).map { i in
        let u = i / size * 2 * size + i % size
        return Reference.silu(sums[u]) * sums[u + size]
      }
      return linear("\(name).w3", hidden, outputs: d, hasBias: hasBias)
    default: preconditionFailure("the reference has no feed-forward part called \(c.mlp.rawValue)")
    }
  }

  // MARK: Conditioning

  struct Condition {
    /// (N, D) each: E_time, E_class (empty without classes), and their sum; with `tokens` those of the groups that the
    /// network has, by group, and the others empty.
    var time: [Double] = []
    var label: [Double] = []
    var sum: [Double] = []
    var groups: [(name: String, count: Int, embedding: [Double])] = []
  }

  private func features(_ times: [Float]) -> [Double] {
    let own = MutableFloatSlice(zeros: times.count * timeFrequencyCount)
    switch c.timeFrequencies {
    case .dit: timeFrequencies(output: own.mutableSpan, times: times.span)
    case .diffusers: timeFrequencies(output: own.mutableSpan, times: times.span, divisor: 127)
    case .literal:
      return times.flatMap { time in
        (0..<128).flatMap { k in
          let angle = Double(time) * pow(10, 4 * Double(k) / 256)
          return [sin(angle), cos(angle)]
        }
      }
    }
    return own.array.doubles
  }

  private func condition(_ prefix: String, _ features: [Double], _ labels: [Int]) -> Condition {
    let d = c.hiddenSize
    func embedded(_ name: String, _ features: [Double]) -> [Double] {
      let hidden = linear("\(name).mlp.0", features, outputs: d).map(Reference.silu)
      return linear("\(name).mlp.2", hidden, outputs: d)
    }
    var condition = Condition()
    if c.labelRows > 0 {
      let table = tensor("\(prefix)y_embedder.embedding_table.weight")
      condition.label = labels.flatMap { table[$0 * d..<($0 + 1) * d] }
    }
    guard let groups = c.tokenGroups else {
      condition.time = embedded("\(prefix)t_embedder", features)
      condition.sum = c.labelRows > 0 ? zip(condition.time, condition.label).map(+) : condition.time
      return condition
    }
    if groups.classes > 0 { condition.groups.append(("class", groups.classes, condition.label)) }
    let told = [
      ("omega", groups.omega, "omega_embedder"), ("t_min", groups.tMin, "cfg_t_start_embedder"),
      ("t_max", groups.tMax, "cfg_t_end_embedder"), ("time", groups.time, "h_embedder"),
    ].filter { $0.1 > 0 }
    for (place, (name, count, embedder)) in told.enumerated() {
      let own = stride(from: place * 256, to: features.count, by: told.count * 256).flatMap { features[$0..<$0 + 256] }
      condition.groups.append((name, count, embedded(embedder, own)))
    }
    return condition
  }

  /// `parts` chunks, (N, D) each, from the condition; nil where shift and scale are not its.
  private func modulation(_ name: String, _ condition: Condition, parts: Int) -> [[Double]]? {
    guard c.conditioning == .adaLNZero || c.conditioning == .adaLN else { return nil }
    let d = c.hiddenSize
    let rows = linear("\(name).adaLN_modulation.1", condition.sum.map(Reference.silu), outputs: parts * d)
    return (0..<parts).map { part in
      stride(from: part * d, to: rows.count, by: parts * d).flatMap { rows[$0..<$0 + d] }
    }
  }

  /// n (1 + scale) + shift; without them n · weight + bias. RMSNorm's n has a weight in either case, and no bias.
  private func norm(
    _ name: String, _ x: [Double], _ modulation: (shift: [Double], scale: [Double])?, epsilon: Double
  ) -> [Double] {
    let d = c.hiddenSize
    let weight = c.norm == .rms || modulation == nil ? tensor("\(name).weight") : [Double](repeating: 1, count: d)
    let bias = c.norm == .layer && modulation == nil ? tensor("\(name).bias") : [Double](repeating: 0, count: d)
    let rows = stride(from: 0, to: x.count, by: d).flatMap { row in
      let values = x[row..<row + d]
      let n = c.norm == .rms ? Self.rms(values, epsilon) : Reference.normalize(values, epsilon).0
      return n.indices.map { n[$0] * weight[$0] + bias[$0] }
    }
    guard let modulation else { return rows }
    let sample = x.count / (modulation.shift.count / d)
    return rows.indices.map { i in
      let at = i / sample * d + i % d
      return rows[i] * (1 + modulation.scale[at]) + modulation.shift[at]
    }
  }

  /// x / √(mean x² + ε).
  static func rms(_ x: ArraySlice<Double>, _ epsilon: Double) -> [Double] {
    let root = (x.reduce(0) { $0 + $1 * $1 } / Double(x.count) + epsilon).squareRoot()
    return x.map { $0 / root }
  }
}
