import DiTKernels
import DiTTensor

/// Dropout of a batch, element by element as ``Philox`` says.
public struct DropoutCase: KernelCase {
  let samples, tokens, width: Int
  let rate: Double
  var format = Format.fp32
  var stream: UInt32 = 7
  /// Of the mask, side by side.
  var copies = 1

  public var description: String {
    "\(samples)×\(tokens)×\(width), \(copies) times, at \(rate) in \(format), stream \(stream)"
  }
  public var kernels: Set<String> { rate > 0 ? ["dropout"] : [] }

  private var keys: [UInt64] { (0..<UInt64(samples)).map { $0 &* 0x9E37_79B9_7F4A_7C15 &+ 0xFFFF_FFFF } }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    ["x": draw.normal(samples * tokens * width * copies).rounded(to: format)]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let x = o.state("x", rows: samples * tokens, columns: width * copies, format: format)
    let keys = keys
    return { context.dropout(x, rate: rate, tokens: tokens, keys: keys.span, stream: stream, copies: copies) }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (values, elements, factor) = (x.floats("x"), tokens * width, Float(1 / (1 - rate)))
    guard rate > 0 else { return [.bits("x", values)] }
    var words: [UInt32] = []
    for key in keys {
      var random = Philox(seed: key, stream: UInt64(stream))
      // Two words a call, the upper one first.
      let drawn = (0..<(elements + 1) / 2).flatMap { _ in
        let two = random.next()
        return [UInt32(two >> 32), UInt32(truncatingIfNeeded: two)]
      }
      words += drawn.prefix(elements)
    }
    let kept = values.indices.map { index in
      let (row, column) = (index / (width * copies), index % width)
      return Double(words[row * width + column]) * 0x1p-32 < rate ? 0 : values[index] * factor
    }
    return [.bits("x", kept.rounded(to: format))]
  }

  public static let all =
    [(1, 1, 1, 0.5), (2, 3, 5, 0.1), (3, 65, 17, 0.9), (2, 9, 2730, 0.25), (2, 130, 145, 0.5), (2, 3, 7, 0)]
    .flatMap { samples, tokens, width, rate in
      Format.all.map {
        DropoutCase(samples: samples, tokens: tokens, width: width, rate: rate, format: $0)
      }
    } + [DropoutCase(samples: 2, tokens: 5, width: 9, rate: 0.5, stream: .max)]
    + Format.all.flatMap { format in
      [5, 27, 130].map {
        DropoutCase(samples: 2, tokens: 6, width: $0, rate: 0.4, format: format, copies: 2)
      }
    }

  public static let measured = [
    KernelSpeed(
      "dropout", .bytes("x r w", 8 * 2048 * 768), DropoutCase(samples: 8, tokens: 256, width: 768, rate: 0.1))
  ]
}

/// y = residual + gate ⊙ sums, and the same where the residual is y itself.
public struct GatedAdditionCase: KernelCase {
  let samples, tokens, width: Int
  let format: Format
  /// One gate for all samples.
  var isShared = false

  public var description: String { "\(samples)×\(tokens)×\(width) in \(format)\(isShared ? ", shared" : "")" }
  public var kernels: Set<String> { ["add_gated"] }
  private var rows: Int { samples * tokens }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    [
      "residual": draw.normal(rows * width), "gate": draw.normal((isShared ? 1 : samples) * width),
      "sums": draw.normal(rows * width).rounded(to: format),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let gate =
      isShared
      ? Matrix(o.vector("gate"), rows: samples, columns: width, stride: 0)
      : o.matrix("gate", rows: samples, columns: width, stride: width + 5)
    let residual = o.matrix("residual", rows: rows, columns: width, stride: width + 1)
    let sums = o.matrix("sums", rows: rows, columns: width, stride: width + 2, format: format)
    let y = o.output("y", rows: rows, columns: width, stride: width + 3)
    let stream = o.state("stream", from: "residual", rows: rows, columns: width)
    return {
      context.addGated(into: y, residual: residual, gate: gate, sums: sums, tokens: tokens)
      context.addGated(into: stream, residual: nil, gate: gate, sums: sums, tokens: tokens)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (residual, gate, sums) = (x["residual"], x["gate"], x["sums"])
    let y = residual.indices.map { i in
      residual[i] + gate[(isShared ? 0 : i / (tokens * width) * width) + i % width] * sums[i]
    }
    return [.near("y", y, .roundings(4)), .same("stream", as: "y")]
  }

  public static let all =
    [(1, 1, 1), (2, 3, 7), (3, 65, 72), (2, 130, 145)].flatMap { samples, tokens, width in
      Format.all.map { GatedAdditionCase(samples: samples, tokens: tokens, width: width, format: $0) }
    } + [GatedAdditionCase(samples: 3, tokens: 5, width: 37, format: .bf16, isShared: true)]

  public static let measured = [
    KernelSpeed(
      "addGated", .bytes("x r, y r, x w", 16 * 2048 * 768),
      GatedAdditionCase(samples: 8, tokens: 256, width: 768, format: .fp32))
  ]
}
