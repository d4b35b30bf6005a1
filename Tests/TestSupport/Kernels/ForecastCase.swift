import DiTKernels
import DiTTensor

/// A quantity taken up at three evaluations that are not equally far apart, then forecast: alone, and gated onto something.
public struct ForecastCase: KernelCase {
  let samples, tokens, width: Int
  /// Planes: difference quotients up to one less.
  let planes: Int

  private var rows: Int { samples * tokens }
  private var count: Int { rows * width }
  /// Evaluations from one that is taken up to the next.
  private static let distances = [1, 2, 3]
  /// Evaluations after the last.
  private static let ahead: Float = 2

  public var description: String { "\(samples)×\(tokens)×\(width), \(planes) planes" }
  public var kernels: Set<String> { ["update_forecast", "add_forecast"] }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    var inputs = ["y": draw.normal(count), "gate": draw.normal(samples * width)]
    for (place, _) in Self.distances.enumerated() { inputs["x\(place)"] = draw.normal(count) }
    return inputs
  }

  private var factors: [Float] {
    (0..<planes).map { order in (1...max(1, order)).reduce(Float(1)) { $0 * (order == 0 ? 1 : Self.ahead / Float($1)) }
    }
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let distance = count + 5
    let memory = o.scratch(planes * distance)
    let (y, gated) = (
      o.output("forecast", rows: rows, columns: width, stride: width + 3),
      o.state("y", rows: rows, columns: width, stride: width + 1)
    )
    let gate = o.matrix("gate", rows: samples, columns: width, stride: width + 7)
    let values = Self.distances.indices.map { o.vector("x\($0)") }
    return {
      for (place, steps) in Self.distances.enumerated() {
        let known = min(place + 1, planes)
        context.update(ForecastPlanes(memory, distance: distance, count: known), with: values[place], steps: steps)
      }
      let all = ForecastPlanes(memory, distance: distance, count: planes)
      context.addForecast(into: y, gate: nil, all, factors: factors, tokens: tokens)
      context.addForecast(into: gated, gate: gate, all, factors: factors, tokens: tokens)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    var quotients: [[Double]] = []
    for (place, steps) in Self.distances.enumerated() {
      var new = [x["x\(place)"]]
      for order in 0..<min(planes - 1, quotients.count) {
        new.append(new[order].indices.map { (new[order][$0] - quotients[order][$0]) / Double(steps) })
      }
      quotients = new
    }
    let forecast = (0..<count).map { i in
      quotients.enumerated().reduce(0.0) { $0 + Double(factors[$1.offset]) * $1.element[i] }
    }
    let gate = x["gate"]
    let gated = (0..<count).map { i in
      x["y"][i] + gate[i / (tokens * width) * width + i % width] * forecast[i]
    }
    return [
      .near("forecast", forecast, .roundings(16)), .near("y", gated, .roundings(16), scale: 3 * forecast.largest),
    ]
  }

  public static let all = [(1, 1, 1), (2, 3, 17), (1, 130, 33), (3, 70, 320)].flatMap { samples, tokens, width in
    (1...3).map { ForecastCase(samples: samples, tokens: tokens, width: width, planes: $0) }
  }
}
