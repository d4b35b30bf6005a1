import DiTKernels
import DiTTensor
import Foundation

/// q and k of an image's tokens turned by rotary positions, or back.
public struct RotationCase: KernelCase {
  let samples, rows, columns, prefix, heads, size: Int
  var format = Format.fp32
  var isInverse = false

  public var description: String {
    "\(samples)×(\(prefix) + \(rows)×\(columns)), \(heads) heads of \(size) in \(format)\(isInverse ? ", back" : "")"
  }
  public var kernels: Set<String> { [isInverse ? "prepare_heads_backward" : "prepare_heads"] }
  private var tokens: Int { prefix + rows * columns }
  private var width: Int { 3 * heads * size }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    ["qkv": draw.normal(samples * tokens * width).rounded(to: format)]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let table = o.scratch(rows * columns * 2 * size)
    rotaryTable(output: table.mutableSpan, rows: rows, columns: columns, headSize: size)
    let qkv = o.state("qkv", rows: samples * tokens, columns: width, format: format)
    let extents = AttentionExtents(samples: samples, tokens: tokens, heads: heads, headSize: size)
    return {
      if isInverse {
        context.prepareHeadsBackward(
          gradient: qkv, input: qkv.reading, queryWeight: nil, keyWeight: nil, queryWeightGradient: nil,
          keyWeightGradient: nil, scratch: .empty, epsilon: 0, table: table.reading, extents, prefix: prefix)
      } else {
        context.prepareHeads(
          output: qkv, input: qkv.reading, queryWeight: nil, keyWeight: nil, epsilon: 0, table: table.reading, extents,
          prefix: prefix)
      }
    }
  }

  /// Pair k of the first half turns by column · θ_k, of the second by row · θ_k, θ_k = 10000^(−k/(d/4)).
  public func expected(_ x: Inputs) -> [Expectation] {
    let (qkv, half) = (x["qkv"], size / 4)
    var out = qkv
    for row in 0..<samples * tokens where row % tokens >= prefix {
      let token = row % tokens - prefix
      for pair in 0..<heads * size {
        let k = pair % (size / 2)
        let position = k < half ? token % columns : token / columns
        let theta = pow(10000, -Double(k % half) / (Double(size) / 4))
        let angle = (isInverse ? -1 : 1) * Double(position) * theta
        let i = row * width + 2 * pair
        out[i] = qkv[i] * cos(angle) - qkv[i + 1] * sin(angle)
        out[i + 1] = qkv[i] * sin(angle) + qkv[i + 1] * cos(angle)
      }
    }
    return [.near("qkv", out, .roundings(4))]
  }

  public static let all = [
    (2, 3, 5, 0, 3, 4), (3, 2, 3, 4, 2, 12), (1, 9, 15, 1, 1, 72), (2, 1, 7, 2, 2, 32), (2, 21, 7, 3, 2, 12),
  ].flatMap { samples, rows, columns, prefix, heads, size in
    Format.all.flatMap { format in
      [false, true].map {
        RotationCase(
          samples: samples, rows: rows, columns: columns, prefix: prefix, heads: heads, size: size, format: format,
          isInverse: $0)
      }
    }
  }
}
