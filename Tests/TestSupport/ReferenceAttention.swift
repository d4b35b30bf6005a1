import Foundation

extension Reference {
  /// The extents of multi-head attention over (samples · tokens, 3 · heads · size).
  public struct Heads: Sendable {
    public let samples, tokens, heads, size: Int

    public init(samples: Int, tokens: Int, heads: Int, size: Int) {
      self.samples = samples
      self.tokens = tokens
      self.heads = heads
      self.size = size
    }

    public var width: Int { heads * size }

    /// Where third `part` (q, k, v) of a token's head begins.
    func qkv(_ sample: Int, _ token: Int, _ part: Int, _ head: Int) -> Int {
      ((sample * tokens + token) * 3 + part) * width + head * size
    }

    /// Where a token's query of a head begins.
    public func query(_ sample: Int, _ token: Int, _ head: Int) -> Int { qkv(sample, token, 0, head) }

    func out(_ sample: Int, _ token: Int, _ head: Int) -> Int { (sample * tokens + token) * width + head * size }
  }

  /// Scales and windows: one width and one number of prefix keys a sample, one scale a head of each sample.
  public struct Windows: Sendable {
    public enum Mask: CaseIterable, Sendable { case none, soft, hard }

    public var mask = Mask.none
    public var prefix = 0
    public var columns: Int?
    public var widths: [Int] = []
    public var prefixKeys: [Int] = []
    public var scales: [Double] = []

    public init() {}

    /// What a key's place makes of its logit: nil where it has no part.
    fileprivate enum Place { case inside, outside, absent }

    fileprivate func place(_ sample: Int, _ i: Int, _ j: Int) -> Place {
      if j < prefix { return prefixKeys.isEmpty || j < prefixKeys[sample] ? .inside : .absent }
      if i < prefix || mask == .none { return .inside }
      let (a, b, k) = (i - prefix, j - prefix, widths[sample])
      let isNear =
        if let columns { abs(a / columns - b / columns) < k && abs(a % columns - b % columns) < k } else {
          abs(a - b) < k
        }
      return isNear ? .inside : mask == .soft ? .outside : .absent
    }

    fileprivate func scale(_ sample: Int, _ head: Int, _ h: Heads) -> Double {
      scales.isEmpty ? 1 / Double(h.size).squareRoot() : scales[sample * h.heads + head]
    }
  }

  /// softmax(logits) v, and log Σ exp of each row's logits.
  public static func attention(
    _ qkv: [Double], _ h: Heads, _ w: Windows = Windows()
  ) -> (out: [Double], logsumexp: [Double]) {
    var out = [Double](repeating: 0, count: h.samples * h.tokens * h.width)
    var logsumexp: [Double] = []
    for sample in 0..<h.samples {
      for head in 0..<h.heads {
        for i in 0..<h.tokens {
          let (p, lse) = probabilities(qkv, h, w, sample, head, i)
          logsumexp.append(lse)
          let at = h.out(sample, i, head)
          for j in 0..<h.tokens {
            let v = h.qkv(sample, j, 2, head)
            for c in 0..<h.size { out[at + c] += p[j] * qkv[v + c] }
          }
        }
      }
    }
    return (out, logsumexp)
  }

  /// The gradient of ``attention`` with respect to qkv: dP = dout vᵀ, dS = P (dP − Σ P dP) inside, dq = scale dS k.
  public static func attentionGradient(
    _ dout: [Double], _ qkv: [Double], _ h: Heads, _ w: Windows = Windows()
  ) -> [Double] {
    var gradient = [Double](repeating: 0, count: qkv.count)
    for sample in 0..<h.samples {
      for head in 0..<h.heads {
        let scale = w.scale(sample, head, h)
        for i in 0..<h.tokens {
          let (p, _) = probabilities(qkv, h, w, sample, head, i)
          let (at, q) = (h.out(sample, i, head), h.qkv(sample, i, 0, head))
          var dp = [Double](repeating: 0, count: h.tokens)
          for j in 0..<h.tokens {
            let v = h.qkv(sample, j, 2, head)
            for c in 0..<h.size {
              dp[j] += dout[at + c] * qkv[v + c]
              gradient[v + c] += p[j] * dout[at + c]
            }
          }
          let mean = dot(p, dp)
          for j in 0..<h.tokens where w.place(sample, i, j) == .inside {
            let k = h.qkv(sample, j, 1, head)
            let ds = p[j] * (dp[j] - mean) * scale
            for c in 0..<h.size {
              gradient[q + c] += ds * qkv[k + c]
              gradient[k + c] += ds * qkv[q + c]
            }
          }
        }
      }
    }
    return gradient
  }

  /// The sums of the absolute values of the terms of ``attention`` and ``attentionGradient``: P |v|; P |dout|, and for dq
  /// and dk P (|dP| + Σ |dout| |out|) / √d times |k| and |q|. Each term's relative rounding error is that share of them,
  /// however much of the sums cancels.
  public static func attentionMagnitudes(
    _ dout: [Double], _ qkv: [Double], _ h: Heads, _ w: Windows = Windows()
  ) -> (out: [Double], gradient: [Double]) {
    var out = [Double](repeating: 0, count: dout.count)
    var gradient = [Double](repeating: 0, count: qkv.count)
    let result = attention(qkv, h, w).out
    for sample in 0..<h.samples {
      for head in 0..<h.heads {
        let scale = w.scale(sample, head, h)
        for i in 0..<h.tokens {
          let (p, _) = probabilities(qkv, h, w, sample, head, i)
          let (at, q) = (h.out(sample, i, head), h.qkv(sample, i, 0, head))
          var delta = 0.0
          for c in 0..<h.size { delta += abs(dout[at + c] * result[at + c]) }
          for j in 0..<h.tokens {
            let (k, v) = (h.qkv(sample, j, 1, head), h.qkv(sample, j, 2, head))
            var dp = 0.0
            for c in 0..<h.size {
              dp += dout[at + c] * qkv[v + c]
              out[at + c] += p[j] * abs(qkv[v + c])
              gradient[v + c] += p[j] * abs(dout[at + c])
            }
            let ds = w.place(sample, i, j) == .inside ? p[j] * (abs(dp) + delta) * scale : 0
            for c in 0..<h.size {
              gradient[q + c] += ds * abs(qkv[k + c])
              gradient[k + c] += ds * abs(qkv[q + c])
            }
          }
        }
      }
    }
    return (out, gradient)
  }

  /// The largest magnitude of a logit.
  public static func largestLogit(_ qkv: [Double], _ h: Heads, _ w: Windows = Windows()) -> Double {
    var largest = 0.0
    for sample in 0..<h.samples {
      for head in 0..<h.heads {
        for i in 0..<h.tokens {
          for logit in logits(qkv, h, w, sample, head, i) where logit.isFinite { largest = max(largest, abs(logit)) }
        }
      }
    }
    return largest
  }

  private static func logits(
    _ qkv: [Double], _ h: Heads, _ w: Windows, _ sample: Int, _ head: Int, _ i: Int
  ) -> [Double] {
    let (q, scale) = (h.qkv(sample, i, 0, head), w.scale(sample, head, h))
    return (0..<h.tokens).map { j in
      switch w.place(sample, i, j) {
      case .absent: return -.infinity
      case .outside: return 0
      case .inside: break
      }
      let k = h.qkv(sample, j, 1, head)
      var sum = 0.0
      for c in 0..<h.size { sum += qkv[q + c] * qkv[k + c] }
      return scale * sum
    }
  }

  private static func probabilities(
    _ qkv: [Double], _ h: Heads, _ w: Windows, _ sample: Int, _ head: Int, _ i: Int
  ) -> ([Double], Double) {
    let s = logits(qkv, h, w, sample, head, i)
    let top = s.max() ?? 0
    let e = s.map { exp($0 - top) }
    let sum = e.reduce(0, +)
    return (e.map { $0 / sum }, top + log(sum))
  }
}
