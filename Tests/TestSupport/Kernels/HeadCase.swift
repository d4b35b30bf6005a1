import DiTKernels
import DiTTensor
import Foundation

/// q and k before attention: heads normalized, image tokens turned, and back. Out of place, and then in place with the same
/// bits.
public struct HeadCase: KernelCase {
  let samples, rows, columns, prefix, heads, size: Int
  var format = Format.fp32
  var isQueryNormed = true
  var isKeyNormed = true
  /// Nil: not turned.
  var order: RotaryOrder? = .rowFirst
  var isBackward = true
  /// Of the weights, about 1: 0 keeps a gradient that is made again and again, as `dit-bench` does, in range.
  var deviation: Float = 1

  private static let epsilon = 1e-6

  public var description: String {
    "\(samples)×(\(prefix) + \(rows)×\(columns)), \(heads) heads of \(size) in \(format)"
      + (isQueryNormed ? ", q normed" : "") + (isKeyNormed ? ", k normed" : "")
      + (order.map { ", turned \($0)" } ?? "") + (isBackward ? "" : ", forward")
  }
  public var kernels: Set<String> {
    guard isBackward else { return ["prepare_heads"] }
    let all: Set = ["prepare_heads", "prepare_heads_backward"]
    return isQueryNormed || isKeyNormed ? all.union(["column_sums"]) : all
  }
  private var tokens: Int { prefix + rows * columns }
  private var width: Int { 3 * heads * size }
  private var extents: AttentionExtents {
    AttentionExtents(samples: samples, tokens: tokens, heads: heads, headSize: size)
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    var inputs = [
      "qkv": draw.normal(samples * tokens * width).rounded(to: format),
      "dqkv": draw.normal(samples * tokens * width).rounded(to: format),
    ]
    for (name, isNormed) in [("q", isQueryNormed), ("k", isKeyNormed)] where isNormed {
      inputs["\(name) weight"] = draw.normal(size, deviation: deviation, mean: 1)
      inputs["d\(name) weight"] = draw.normal(size)
    }
    return inputs
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (rows, epsilon) = (samples * tokens, Float(Self.epsilon))
    let input = o.matrix("qkv", rows: rows, columns: width, format: format)
    let (q, k) = (isQueryNormed ? o.vector("q weight") : nil, isKeyNormed ? o.vector("k weight") : nil)
    let table = order.map { order in
      let table = o.scratch(self.rows * columns * 2 * size)
      rotaryTable(output: table.mutableSpan, rows: self.rows, columns: columns, headSize: size, order: order)
      return table.reading
    }
    func forward(_ output: MutableMatrix, _ input: Matrix) -> () -> Void {
      {
        context.prepareHeads(
          output: output, input: input, queryWeight: q, keyWeight: k, epsilon: epsilon, table: table, extents,
          prefix: prefix)
      }
    }
    forward(o.output("out", rows: rows, columns: width, format: format), input)()
    let own = o.state("in place", from: "qkv", rows: rows, columns: width, format: format)
    guard isBackward else { return forward(own, own.reading) }
    forward(own, own.reading)()
    let gradient = o.state("dqkv", rows: rows, columns: width, format: format)
    let (dq, dk) = (isQueryNormed ? o.state("dq weight") : nil, isKeyNormed ? o.state("dk weight") : nil)
    let scratch = o.scratch(ComputeContext.prepareHeadsScratch(extents))
    return {
      context.prepareHeadsBackward(
        gradient: gradient, input: input, queryWeight: q, keyWeight: k, queryWeightGradient: dq,
        keyWeightGradient: dk, scratch: scratch, epsilon: epsilon, table: table, extents, prefix: prefix)
    }
  }

  /// The weight of the head that begins at element `start` of a row, and its name; nil of v and where there is none.
  private func weight(_ start: Int, _ x: Inputs) -> (name: String, values: [Double])? {
    switch start / (heads * size) {
    case 0: isQueryNormed ? ("q weight", x["q weight"]) : nil
    case 1: isKeyNormed ? ("k weight", x["k weight"]) : nil
    default: nil
    }
  }

  /// The angle of pair `pair` of a head that begins at element `start` of a row: half of the pairs turn with the row.
  private func angle(_ row: Int, _ start: Int, pair: Int) -> Double {
    guard let order, row % tokens >= prefix, start < 2 * heads * size else { return 0 }
    let (token, quarter) = (row % tokens - prefix, size / 4)
    let isRow = (pair < quarter) == (order == .rowFirst)
    return Double(isRow ? token / columns : token % columns) * pow(10000, -Double(pair % quarter) / (Double(size) / 4))
  }

  private func forward(_ x: Inputs) -> [Double] {
    let qkv = x["qkv"]
    var out = qkv
    for row in 0..<samples * tokens {
      for start in stride(from: 0, to: width, by: size) {
        let at = row * width + start
        var y = Array(qkv[at..<at + size])
        if let (_, weight) = weight(start, x) {
          let rstd = 1 / (y.reduce(0) { $0 + $1 * $1 } / Double(size) + Self.epsilon).squareRoot()
          for c in 0..<size { y[c] *= rstd * weight[c] }
        }
        for pair in 0..<size / 2 {
          let (angle, a, b) = (angle(row, start, pair: pair), y[2 * pair], y[2 * pair + 1])
          out[at + 2 * pair] = a * cos(angle) - b * sin(angle)
          out[at + 2 * pair + 1] = a * sin(angle) + b * cos(angle)
        }
        if size % 2 == 1 { out[at + size - 1] = y[size - 1] }
      }
    }
    return out
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let out = forward(x)
    let tolerance = Tolerance.normalized(offset: 1, terms: size)
    let all: [Expectation] = [
      .near("out", out, tolerance), .same("in place", as: "out"),
    ]
    guard isBackward else { return all }
    let qkv = x["qkv"]
    var gradient = x["dqkv"]
    var sums = ["q weight": [Double](repeating: 0, count: size), "k weight": [Double](repeating: 0, count: size)]
    for row in 0..<samples * tokens {
      for start in stride(from: 0, to: width, by: size) {
        let at = row * width + start
        for pair in 0..<size / 2 {
          let (angle, a, b) = (angle(row, start, pair: pair), gradient[at + 2 * pair], gradient[at + 2 * pair + 1])
          gradient[at + 2 * pair] = a * cos(angle) + b * sin(angle)
          gradient[at + 2 * pair + 1] = b * cos(angle) - a * sin(angle)
        }
        guard let (name, weight) = weight(start, x) else { continue }
        let (head, t) = (Array(qkv[at..<at + size]), Array(gradient[at..<at + size]))
        let rstd = 1 / (head.reduce(0) { $0 + $1 * $1 } / Double(size) + Self.epsilon).squareRoot()
        // Through rstd: d rstd / dx = −rstd³ x / size.
        var drstd = 0.0
        for c in 0..<size {
          sums[name]![c] += t[c] * head[c] * rstd
          drstd += t[c] * weight[c] * head[c]
        }
        for c in 0..<size {
          gradient[at + c] = t[c] * weight[c] * rstd - drstd * rstd * rstd * rstd * head[c] / Double(size)
        }
      }
    }
    let terms = samples * tokens * heads
    return all + [.near("dqkv", gradient, tolerance)]
      + [("q weight", isQueryNormed), ("k weight", isKeyNormed)].filter(\.1).map { name, _ in
        // A sum of n products of normals is about √n.
        .near(
          "d\(name)", sum(x["d\(name)"], sums[name]!), .normalized(offset: 1, terms: terms),
          scale: 3 * Double(terms).squareRoot())
      }
  }

  public var gradients: [String: String] {
    ["q weight": "dq weight", "k weight": "dk weight"]
  }
  public func loss(_ x: Inputs) -> Double { dot(x["dqkv"], forward(x)) }
  /// What the kernel makes of qkv's gradient replaces it: see the fixtures, which PyTorch made.
  public static let differenced = [HeadCase(samples: 2, rows: 2, columns: 3, prefix: 1, heads: 2, size: 4)]

  /// Head sizes with and without a part of a vector at their end; more tokens than the 64 that a task takes; prefixes
  /// that end inside a task's rows and beyond them.
  private static let sizes = [
    (2, 3, 5, 0, 3, 4), (3, 2, 3, 4, 2, 8), (1, 9, 15, 1, 2, 36), (2, 1, 7, 2, 2, 64), (2, 13, 7, 3, 2, 72),
    (1, 5, 3, 66, 1, 80), (2, 3, 3, 0, 1, 12),
  ]

  public static let all = sizes.flatMap { samples, rows, columns, prefix, heads, size in
    Format.all.flatMap { format in
      [
        (true, true, RotaryOrder.rowFirst as RotaryOrder?), (true, true, nil), (false, true, .columnFirst),
        (true, false, nil), (false, false, .rowFirst), (false, false, nil),
      ].map {
        HeadCase(
          samples: samples, rows: rows, columns: columns, prefix: prefix, heads: heads, size: size, format: format,
          isQueryNormed: $0, isKeyNormed: $1, order: $2)
      }
    }
  }

  public static let fixtures = ["square", "oblong"].map { name in
    KernelFixture("heads normalized and turned, \(name)") {
      let (fixture, name) = (try Fixture("kernel_parts"), "heads.\(name)")
      // samples, rows, columns, prefix, heads, size
      let e = try fixture.doubles("\(name).extents").map(Int.init)
      return try .init(
        kernel: HeadCase(samples: e[0], rows: e[1], columns: e[2], prefix: e[3], heads: e[4], size: e[5]),
        inputs: [
          "qkv": fixture.floats("\(name).qkv"), "dqkv": fixture.floats("\(name).dy"),
          "q weight": fixture.floats("\(name).q_weight"), "k weight": fixture.floats("\(name).k_weight"),
          "dq weight": [Float](repeating: 0, count: e[5]), "dk weight": [Float](repeating: 0, count: e[5]),
        ],
        results: [
          "out": fixture.doubles("\(name).y"), "dqkv": fixture.doubles("\(name).dqkv"),
          "dq weight": fixture.doubles("\(name).dq_weight"), "dk weight": fixture.doubles("\(name).dk_weight"),
        ])
    }
  }

  /// A block of DiT-B/2, and one of the heads of 72 of XL.
  public static let measured = [(12, 64), (16, 72)].flatMap { heads, size in
    [false, true].map { isBackward in
      let moved = 2048 * 3 * heads * size
      return KernelSpeed(
        "prepareHeads\(isBackward ? "Backward" : ""), \(size)",
        .bytes(isBackward ? "qk r, dqk r w" : "qk r w", moved * (isBackward ? 12 : 8) * 2 / 3),
        HeadCase(
          samples: 8, rows: 16, columns: 16, prefix: 0, heads: heads, size: size, isBackward: isBackward,
          deviation: 0))
    }
  }
}
