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

    func out(_ sample: Int, _ token: Int, _ head: Int) -> Int { (sample * tokens + token) * width + head * size }
  }

  /// softmax(q kᵀ / √d) v, and log Σ exp of each row's logits.
  public static func attention(_ qkv: [Double], _ h: Heads) -> (out: [Double], logsumexp: [Double]) {
    var out = [Double](repeating: 0, count: h.samples * h.tokens * h.width)
    var logsumexp: [Double] = []
    for sample in 0..<h.samples {
      for head in 0..<h.heads {
        for i in 0..<h.tokens {
          let (p, lse) = probabilities(qkv, h, sample, head, i)
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

  /// The gradient of ``attention`` with respect to qkv: dP = dout vᵀ, dS = P (dP − Σ P dP), dq = dS k / √d.
  public static func attentionGradient(_ dout: [Double], _ qkv: [Double], _ h: Heads) -> [Double] {
    var gradient = [Double](repeating: 0, count: qkv.count)
    let scale = 1 / Double(h.size).squareRoot()
    for sample in 0..<h.samples {
      for head in 0..<h.heads {
        for i in 0..<h.tokens {
          let (p, _) = probabilities(qkv, h, sample, head, i)
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
          for j in 0..<h.tokens {
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
    _ dout: [Double], _ qkv: [Double], _ h: Heads
  ) -> (out: [Double], gradient: [Double]) {
    var out = [Double](repeating: 0, count: dout.count)
    var gradient = [Double](repeating: 0, count: qkv.count)
    let (scale, result) = (1 / Double(h.size).squareRoot(), attention(qkv, h).out)
    for sample in 0..<h.samples {
      for head in 0..<h.heads {
        for i in 0..<h.tokens {
          let (p, _) = probabilities(qkv, h, sample, head, i)
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
            let ds = p[j] * (abs(dp) + delta) * scale
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

  /// The largest |q·k| / √d.
  public static func largestLogit(_ qkv: [Double], _ h: Heads) -> Double {
    var largest = 0.0
    for sample in 0..<h.samples {
      for head in 0..<h.heads {
        for i in 0..<h.tokens { largest = logits(qkv, h, sample, head, i).reduce(largest) { max($0, abs($1)) } }
      }
    }
    return largest
  }

  private static func logits(_ qkv: [Double], _ h: Heads, _ sample: Int, _ head: Int, _ i: Int) -> [Double] {
    let q = h.qkv(sample, i, 0, head)
    return (0..<h.tokens).map { j in
      let k = h.qkv(sample, j, 1, head)
      var sum = 0.0
      for c in 0..<h.size { sum += qkv[q + c] * qkv[k + c] }
      return sum / Double(h.size).squareRoot()
    }
  }

  private static func probabilities(
    _ qkv: [Double], _ h: Heads, _ sample: Int, _ head: Int, _ i: Int
  ) -> ([Double], Double) {
    let s = logits(qkv, h, sample, head, i)
    let top = s.max() ?? 0
    let e = s.map { exp($0 - top) }
    let sum = e.reduce(0, +)
    return (e.map { $0 / sum }, top + log(sum))
  }
}
