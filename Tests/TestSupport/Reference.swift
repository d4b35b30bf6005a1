import Foundation

/// The network's parts as their definitions read, in Double, one loop an index: slow, and for that plain. Matrices are
/// row-major; letters as in the kernels.
public enum Reference {
  // MARK: Products

  /// y = x Wᵀ + b.
  public static func linear(
    _ x: [Double], _ w: [Double], _ b: [Double], rows: Int, inputs: Int, outputs: Int
  ) -> [Double] {
    var y = [Double](repeating: 0, count: rows * outputs)
    for r in 0..<rows {
      for o in 0..<outputs {
        var sum = b[o]
        for i in 0..<inputs { sum += x[r * inputs + i] * w[o * inputs + i] }
        y[r * outputs + o] = sum
      }
    }
    return y
  }

  /// dx = dy W.
  public static func linearInputGradient(
    _ dy: [Double], _ w: [Double], rows: Int, inputs: Int, outputs: Int
  ) -> [Double] {
    var dx = [Double](repeating: 0, count: rows * inputs)
    for r in 0..<rows {
      for o in 0..<outputs {
        for i in 0..<inputs { dx[r * inputs + i] += dy[r * outputs + o] * w[o * inputs + i] }
      }
    }
    return dx
  }

  /// dW = dyᵀ x, db = Σ_rows dy.
  public static func linearWeightGradient(
    _ dy: [Double], _ x: [Double], rows: Int, inputs: Int, outputs: Int
  ) -> (weight: [Double], bias: [Double]) {
    var dw = [Double](repeating: 0, count: outputs * inputs)
    var db = [Double](repeating: 0, count: outputs)
    for r in 0..<rows {
      for o in 0..<outputs {
        let g = dy[r * outputs + o]
        db[o] += g
        for i in 0..<inputs { dw[o * inputs + i] += g * x[r * inputs + i] }
      }
    }
    return (dw, db)
  }

  // MARK: Activations

  /// x/2 (1 + tanh √(2/π)(x + 0.044715 x³))
  public static func gelu(_ x: Double) -> Double {
    0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
  }

  /// Its slope: with u the argument of tanh, (1 + tanh u)/2 + x/2 (1 − tanh² u) u'.
  public static func geluSlope(_ x: Double) -> Double {
    let root = (2 / Double.pi).squareRoot()
    let t = tanh(root * (x + 0.044715 * x * x * x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x)
  }

  public static func silu(_ x: Double) -> Double { x / (1 + exp(-x)) }

  // MARK: Rows

  /// n (1 + scale) + shift, n = (x − mean) / √(var + ε); the row's sample has row `sample` of shift and scale.
  public static func modulate(
    _ x: [Double], shift: [Double], scale: [Double], epsilon: Double, samples: Int, tokens: Int, width: Int
  ) -> [Double] {
    var out = [Double](repeating: 0, count: samples * tokens * width)
    for row in 0..<samples * tokens {
      let (n, _, _) = normalize(x[row * width..<(row + 1) * width], epsilon)
      let sample = row / tokens * width
      for i in 0..<width { out[row * width + i] = n[i] * (1 + scale[sample + i]) + shift[sample + i] }
    }
    return out
  }

  /// n, mean and 1 / √(var + ε) of one row.
  public static func normalize(_ row: ArraySlice<Double>, _ epsilon: Double) -> ([Double], Double, Double) {
    let mean = row.reduce(0, +) / Double(row.count)
    let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(row.count)
    let rstd = 1 / (variance + epsilon).squareRoot()
    return (row.map { ($0 - mean) * rstd }, mean, rstd)
  }

  /// The gradient of ``modulate`` by the chain rule: through n to the mean, to the variance, and to x itself.
  public static func modulateGradient(
    _ dy: [Double], _ x: [Double], scale: [Double], epsilon: Double, samples: Int, tokens: Int, width: Int
  ) -> (dx: [Double], dshift: [Double], dscale: [Double]) {
    var dx = [Double](repeating: 0, count: x.count)
    var dshift = [Double](repeating: 0, count: samples * width)
    var dscale = dshift
    for row in 0..<samples * tokens {
      let (n, mean, rstd) = normalize(x[row * width..<(row + 1) * width], epsilon)
      let (at, sample) = (row * width, row / tokens * width)
      var (dmean, dvariance) = (0.0, 0.0)
      for i in 0..<width {
        dshift[sample + i] += dy[at + i]
        dscale[sample + i] += dy[at + i] * n[i]
        let dn = dy[at + i] * (1 + scale[sample + i])
        dmean -= dn * rstd
        dvariance -= 0.5 * dn * (x[at + i] - mean) * rstd * rstd * rstd
      }
      for i in 0..<width {
        let dn = dy[at + i] * (1 + scale[sample + i])
        dx[at + i] = dn * rstd + (dmean + 2 * dvariance * (x[at + i] - mean)) / Double(width)
      }
    }
    return (dx, dshift, dscale)
  }

  /// x + gate ⊙ y, one row of the gate per sample.
  public static func gated(_ x: [Double], _ y: [Double], gate: [Double], tokens: Int, width: Int) -> [Double] {
    x.indices.map { i in x[i] + gate[i / (tokens * width) * width + i % width] * y[i] }
  }
}
