import DiTKernels
import DiTModel
import DiTTensor
import Foundation
import TestSupport

/// The network in Double as the paper, its variants' definitions and the state dict read: the oracle for every case that
/// has no fixture. It knows every option of `DiTConfiguration`, shares no code with the network but the Float32 time
/// features (`dit`, `diffusers`) and the sizes that the configuration derives (`mlpSize`, `totalTokens`, `prefixTokens`,
/// `inContextTokens`, `labelRows`, `sequenceLength`), and is slow and plain.
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
    c = batch.configuration
    self.noise = noise
    tensors = Dictionary(
      uniqueKeysWithValues: zip(batch.weights.table.parameters, batch.weights.slices).map {
        ($0.name, $1.array.doubles)
      })
  }

  private func tensor(_ name: String) -> [Double] {
    guard let tensor = tensors[name] else { preconditionFailure("no tensor \(name)") }
    return tensor
  }

  private func linear(_ name: String, _ x: [Double], outputs: Int) -> [Double] {
    let weight = tensor(name + ".weight")
    let inputs = weight.count / outputs
    return Reference.linear(
      x, weight, tensor(name + ".bias"), rows: x.count / inputs, inputs: inputs, outputs: outputs)
  }

  // MARK: The network

  /// (N, C', H, W).
  ///
  /// - Parameters:
  ///   - sequence: one per sample, for a network that takes them.
  ///   - features: (N, 256), what the time MLP is given, where it is not to be computed.
  func output(
    _ images: [Double], _ times: [Float], _ labels: [Int], sequence: [Sequence]? = nil, features: [Double]? = nil
  ) -> [Double] {
    let (d, samples, all, first) = (c.hiddenSize, times.count, c.totalTokens, c.prefixTokens)
    let features = features ?? self.features(times)
    let conditions = (c.embedders == .shared ? [""] : (0..<c.depth).map { "blocks.\($0)." }).map {
      condition($0, features, labels)
    }
    let prefixes = sequence.map { $0.map(self.rows) }
    var x = tokens(images, conditions[0], prefixes)
    for block in 0..<c.depth {
      let name = "blocks.\(block)"
      let parts = c.conditioning == .adaLNZero ? 6 : 4
      let rows = modulation(
        name, ["norm1", "norm2"], conditions[block % conditions.count], parts: parts, samples: samples)
      // One tuple per half block: attention, MLP.
      let halves = stride(from: 0, to: parts, by: parts / 2).map { start in
        let gate = parts == 6 ? rows[start + 2] : [Double](repeating: 1, count: samples * d)
        return (shift: rows[start], scale: rows[start + 1], gate: gate)
      }
      var h = modulate(x, halves[0].shift, halves[0].scale, epsilon: DiTConfiguration.publishedEpsilon)
      h = turned(linear("\(name).attn.qkv", h, outputs: 3 * d))
      let windows = self.windows(name, times, conditions[0].time, prefixes)
      let heads = Reference.Heads(samples: samples, tokens: all, heads: c.numHeads, size: c.headSize)
      h = linear("\(name).attn.proj", Reference.attention(h, heads, windows).out, outputs: d)
      x = Reference.gated(x, h, gate: halves[0].gate, tokens: all, width: d)
      h = modulate(x, halves[1].shift, halves[1].scale, epsilon: c.norm2Epsilon)
      h = linear("\(name).mlp.fc1", h, outputs: c.mlpSize).map(Reference.gelu)
      x = Reference.gated(
        x, linear("\(name).mlp.fc2", h, outputs: d), gate: halves[1].gate, tokens: all, width: d)
    }
    x = (0..<samples).flatMap { x[($0 * all + first) * d..<($0 + 1) * all * d] }
    let rows = modulation("final_layer", ["norm_final"], conditions[0], parts: 2, samples: samples)
    let h = modulate(x, rows[0], rows[1], epsilon: DiTConfiguration.publishedEpsilon)
    return put(linear("final_layer.linear", h, outputs: c.patchSize * c.patchSize * c.outChannels), samples)
  }

  // MARK: Conditioning

  private struct Condition {
    /// (N, D) each: E_time, E_class (empty without classes), and their sum.
    let time, label, sum: [Double]
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
    let hidden = linear("\(prefix)t_embedder.mlp.0", features, outputs: d).map(Reference.silu)
    let time = linear("\(prefix)t_embedder.mlp.2", hidden, outputs: d)
    guard c.labelRows > 0 else { return Condition(time: time, label: [], sum: time) }
    let table = tensor("\(prefix)y_embedder.embedding_table.weight")
    let label = labels.flatMap { table[$0 * d..<($0 + 1) * d] }
    return Condition(time: time, label: label, sum: zip(time, label).map(+))
  }

  /// `parts` chunks, (N, D) each: from the condition, or weight and bias of the LayerNorms `norms`.
  private func modulation(
    _ name: String, _ norms: [String], _ condition: Condition, parts: Int, samples: Int
  ) -> [[Double]] {
    let d = c.hiddenSize
    if c.conditioning == .adaLNZero || c.conditioning == .adaLN {
      let rows = linear("\(name).adaLN_modulation.1", condition.sum.map(Reference.silu), outputs: parts * d)
      return (0..<parts).map { part in
        stride(from: part * d, to: rows.count, by: parts * d).flatMap { rows[$0..<$0 + d] }
      }
    }
    // n (1 + scale) + shift is n · weight + bias.
    return norms.flatMap { norm in
      let (weight, bias) = (tensor("\(name).\(norm).weight"), tensor("\(name).\(norm).bias"))
      return [bias, weight.map { $0 - 1 }].map { row in (0..<samples).flatMap { _ in row } }
    }
  }

  private func modulate(_ x: [Double], _ shift: [Double], _ scale: [Double], epsilon: Double) -> [Double] {
    let samples = shift.count / c.hiddenSize
    return Reference.modulate(
      x, shift: shift, scale: scale, epsilon: epsilon, samples: samples, tokens: x.count / shift.count,
      width: c.hiddenSize)
  }

  // MARK: Tokens

  /// The real tokens of one sequence, positions added.
  private func rows(_ sequence: Sequence) -> [Double] {
    let d = c.hiddenSize
    let rows: [Double]
    switch sequence {
    case .text(let bytes):
      let table = tensor("text_embedder.table")
      rows = bytes.flatMap { table[Int($0) * d..<(Int($0) + 1) * d] }
    case .image(let image):
      guard case .image(let height, let width) = c.sequence, let image else { return [] }
      rows = linear("image_embedder.proj", cut(image.doubles, 1, height: height, width: width), outputs: d)
    case .embeddings(let values): rows = values.doubles
    }
    let source = if case .text = c.sequence { "text_embedder" } else { "image_embedder" }
    return zip(rows, tensor("\(source).pos_embed")).map(+)
  }

  /// (N, T, D): in-context tokens, the sequence with zeros for padding, the image's patches.
  private func tokens(_ images: [Double], _ condition: Condition, _ prefixes: [[Double]]?) -> [Double] {
    let (d, l, samples) = (c.hiddenSize, c.tokens, images.count / c.imageElements)
    var patches = linear(
      "x_embedder.proj", cut(images, samples, height: c.inputHeight, width: c.inputWidth), outputs: d)
    if c.position != .rope {
      let positions = tensor("pos_embed")
      for i in patches.indices { patches[i] += positions[i % positions.count] }
    }
    if c.conditioning == .additive {
      for i in patches.indices { patches[i] += condition.sum[i / (l * d) * d + i % d] }
    }
    return (0..<samples).flatMap { n in
      let row = n * d..<(n + 1) * d
      var x: [Double] = []
      if c.conditioning == .inContext {
        x += condition.time[row]
        if !condition.label.isEmpty { x += condition.label[row] }
      }
      if let prefixes {
        x += prefixes[n]
        x += [Double](repeating: 0, count: c.sequenceLength * d - prefixes[n].count)
      }
      return x + patches[n * l * d..<(n + 1) * l * d]
    }
  }

  // MARK: Attention

  /// Rotary positions on q and k of the image's tokens.
  private func turned(_ qkv: [Double]) -> [Double] {
    guard c.position == .rope else { return qkv }
    let (d, all, first, size) = (c.hiddenSize, c.totalTokens, c.prefixTokens, c.headSize)
    let (columns, quarter) = (c.inputWidth / c.patchSize, c.headSize / 4)
    var turned = qkv
    for row in 0..<qkv.count / (3 * d) where row % all >= first {
      let token = row % all - first
      for head in 0..<2 * c.numHeads {
        for pair in 0..<size / 2 {
          let position = pair < quarter ? token % columns : token / columns
          let angle = Double(position) * pow(10000, -Double(pair % quarter) / Double(quarter))
          let at = row * 3 * d + head * size + 2 * pair
          turned[at] = qkv[at] * cos(angle) - qkv[at + 1] * sin(angle)
          turned[at + 1] = qkv[at] * sin(angle) + qkv[at + 1] * cos(angle)
        }
      }
    }
    return turned
  }

  /// The training step whose β and ᾱ attention uses.
  func index(ofTime time: Float) -> Int {
    let steps = noise.betas.count
    guard noise.linearTime != nil else { return Int(time) }
    return min(steps - 1, max(0, Int((Double(time) / 1000 * Double(steps) - 1e-6).rounded(.up)) - 1))
  }

  /// What multiplies q·k at a time, before the gate.
  func temperature(_ time: Float) -> Double {
    let (root, beta) = (Double(c.headSize).squareRoot(), noise.betas[index(ofTime: time)])
    switch c.attention.temperature {
    case .standard: return 1 / root
    case .sqrtBeta: return beta.squareRoot()
    case .inverseSqrtBeta: return 1 / (root * beta.squareRoot())
    }
  }

  private func windows(
    _ block: String, _ times: [Float], _ time: [Double], _ prefixes: [[Double]]?
  ) -> Reference.Windows {
    let (rows, columns) = (c.inputHeight / c.patchSize, c.inputWidth / c.patchSize)
    var w = Reference.Windows()
    w.mask = c.attention.mask == .none ? .none : c.attention.mask == .soft ? .soft : .hard
    w.prefix = c.prefixTokens
    w.prefixKeys = prefixes.map { $0.map { c.inContextTokens + $0.count / c.hiddenSize } } ?? []
    w.columns = c.attention.distance == .grid ? columns : nil
    let extent = c.attention.distance == .grid ? max(rows, columns) : rows * columns
    w.widths = times.map { time in
      let signal = noise.alphasCumprod[index(ofTime: time)]
      let share =
        switch c.attention.window {
        case .full: 1.0
        case .signal: signal.squareRoot()
        case .noise: (1 - signal).squareRoot()
        }
      return min(extent, max(1, Int((share * Double(extent)).rounded(.up))))
    }
    var gates = [Double](repeating: 1, count: times.count * c.numHeads)
    if c.attention.mask != .none {
      let hidden = linear("\(block).attn.noise_mask.mlp.0", time, outputs: c.hiddenSize / 4).map(Reference.silu)
      gates = linear("\(block).attn.noise_mask.mlp.2", hidden, outputs: c.numHeads).map { 1 / (1 + exp(-$0)) }
    }
    w.scales = gates.indices.map { temperature(times[$0 / c.numHeads]) * gates[$0] }
    return w
  }

  // MARK: Patches

  /// Row-major patches; inside each channel, row, column.
  private func cut(_ images: [Double], _ samples: Int, height: Int, width: Int) -> [Double] {
    let (p, columns) = (c.patchSize, width / c.patchSize)
    var rows: [Double] = []
    for n in 0..<samples {
      for token in 0..<height / p * columns {
        for channel in 0..<c.inChannels {
          for i in 0..<p * p {
            let (row, column) = (token / columns * p + i / p, token % columns * p + i % p)
            rows.append(images[((n * c.inChannels + channel) * height + row) * width + column])
          }
        }
      }
    }
    return rows
  }

  /// The inverse of cutting, but that a token's elements are in the order row, column, channel.
  private func put(_ rows: [Double], _ samples: Int) -> [Double] {
    let (p, columns) = (c.patchSize, c.inputWidth / c.patchSize)
    var images = [Double](repeating: .nan, count: rows.count)
    var at = 0
    for n in 0..<samples {
      for token in 0..<c.tokens {
        for i in 0..<p * p {
          for channel in 0..<c.outChannels {
            let (row, column) = (token / columns * p + i / p, token % columns * p + i % p)
            images[((n * c.outChannels + channel) * c.inputHeight + row) * c.inputWidth + column] = rows[at]
            at += 1
          }
        }
      }
    }
    return images
  }
}
