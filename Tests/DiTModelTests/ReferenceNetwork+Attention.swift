import DiTModel
import Foundation
import TestSupport

/// What happens to q and k of the reference, and how its attention depends on the noise level.
extension ReferenceNetwork {
  /// RMSNorm of each head's q and k.
  func normalized(_ qkv: [Double], _ block: String) -> [Double] {
    guard c.qkNorm else { return qkv }
    let (d, size) = (c.hiddenSize, c.headSize)
    let weights = ["q_norm", "k_norm"].map { tensor("\(block).attn.\($0).weight") }
    var normalized = qkv
    for row in stride(from: 0, to: qkv.count, by: 3 * d) {
      for head in 0..<2 * c.numHeads {
        let at = row + head * size
        let n = Self.rms(qkv[at..<at + size], DiTConfiguration.publishedEpsilon)
        for i in 0..<size { normalized[at + i] = n[i] * weights[head / c.numHeads][i] }
      }
    }
    return normalized
  }

  /// Rotary positions on q and k of the image's tokens: plain `rope` by the column first, beside a table by the row first.
  func turned(_ qkv: [Double], prefix: Int) -> [Double] {
    let isColumnFirst = c.position == .rope
    guard isColumnFirst || c.position == .sincosRope || c.position == .learnedRope else { return qkv }
    let (d, all, size) = (c.hiddenSize, prefix + c.tokens, c.headSize)
    let (columns, quarter) = (c.inputWidth / c.patchSize, c.headSize / 4)
    var turned = qkv
    for row in 0..<qkv.count / (3 * d) where row % all >= prefix {
      let token = row % all - prefix
      for head in 0..<2 * c.numHeads {
        for pair in 0..<size / 2 {
          let position = (pair < quarter) == isColumnFirst ? token % columns : token / columns
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

  /// The time of each sample: the last of the numbers that the network is told of it.
  func times(_ numbers: [Float]) -> [Float] {
    stride(from: c.timeInputs - 1, to: numbers.count, by: c.timeInputs).map { numbers[$0] }
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

  func windows(
    _ block: String, _ numbers: [Float], _ time: [Double], _ prefixes: [[Double]]?, prefix: Int
  ) -> Reference.Windows {
    let times = times(numbers)
    let (rows, columns) = (c.inputHeight / c.patchSize, c.inputWidth / c.patchSize)
    var w = Reference.Windows()
    w.mask = c.attention.mask == .none ? .none : c.attention.mask == .soft ? .soft : .hard
    w.prefix = prefix
    w.prefixKeys = prefixes.map { $0.map { c.conditionTokens + $0.count / c.hiddenSize } } ?? []
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
}
