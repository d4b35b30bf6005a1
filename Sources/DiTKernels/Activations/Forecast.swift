import CDiTKernels
import DiTTensor

/// What a quantity is forecast from: its value at the last evaluation that computed it, and its difference quotients there,
/// (order + 1, elements). One after another in memory, `distance` elements apart.
public struct ForecastPlanes {
  let memory: MutableFloatSlice
  let distance: Int
  /// Planes that hold something, or will after the next update.
  let count: Int

  /// - Precondition: `memory` holds so many.
  public init(_ memory: MutableFloatSlice, distance: Int, count: Int) {
    precondition(count > 0 && distance >= 0, "\(count) planes, \(distance) apart")
    check(memory.count, atLeast: count * distance, "planes of a forecast")
    (self.memory, self.distance, self.count) = (memory, distance, count)
  }
}

extension ComputeContext {
  /// Takes up a new value x, `steps` steps after the last: F₀ = x, Fᵢ₊₁ = (Fᵢ − what it was) / steps.
  ///
  /// - Parameters:
  ///   - planes: F₀, F₁, …, changed.
  ///   - x: at most as many elements as a plane.
  ///   - steps: since the last value.
  public func update(_ planes: ForecastPlanes, with x: FloatSlice, steps: Int) {
    precondition(steps > 0 && x.count <= planes.distance, "\(x.count) elements in planes of \(planes.distance)")
    let task = unsafe UpdateForecast(
      kernels: kernels, planes: planes.memory.pointer, distance: planes.distance, orders: planes.count,
      inverse: 1 / Float(steps), x: x.pointer, count: x.count)
    unsafe parallel(ceilDivide(x.count, flatChunk), task)
  }

  /// y = Σᵢ factorᵢ Fᵢ, or y += gate ⊙ that sum.
  ///
  /// - Parameters:
  ///   - y: (rows, columns), as it lies in a plane.
  ///   - gate: a row for each `tokens` rows; nil: y is overwritten.
  ///   - planes: F₀, F₁, …
  ///   - factors: one for each plane.
  ///   - tokens: rows of a sample.
  public func addForecast(
    into y: MutableMatrix, gate: Matrix?, _ planes: ForecastPlanes, factors: [Float], tokens: Int
  ) {
    precondition(
      factors.count == planes.count && y.rows * y.columns <= planes.distance,
      "\(factors.count) factors, (\(y.rows), \(y.columns)) of planes of \(planes.distance)")
    precondition(tokens > 0 && y.rows % tokens == 0, "\(y.rows) rows in samples of \(tokens) tokens")
    if let gate {
      precondition(
        gate.columns == y.columns && gate.rows * tokens >= y.rows, "gates for \(gate.rows) samples of \(y.rows) rows")
    }
    unsafe factors.withUnsafeBufferPointer { factors in
      let task = unsafe AddForecast(
        kernels: kernels, y: y.floats, stride: y.stride, gate: gate?.floats, gateStride: gate?.stride ?? 0,
        planes: planes.memory.pointer, distance: planes.distance, factors: factors.baseAddress!, orders: factors.count,
        tokens: tokens, width: y.columns)
      unsafe parallel(y.rows / tokens * task.parts, task)
    }
  }
}

@unsafe private struct UpdateForecast: ParallelTask {
  let kernels: DiTKernelTable
  let planes: UnsafeMutablePointer<Float>
  let distance, orders: Int
  let inverse: Float
  let x: UnsafePointer<Float>
  let count: Int

  func run(_ index: Int, worker: Int) {
    let range = unsafe flatRange(index, of: count)
    unsafe kernels.update_forecast(
      planes + range.lowerBound, distance, orders, inverse, x + range.lowerBound, range.count)
  }
}

/// Rows of one sample.
@unsafe private struct AddForecast: ParallelTask {
  static let rowsPerTask = 64

  let kernels: DiTKernelTable
  let y: UnsafeMutablePointer<Float>
  let stride: Int
  let gate: UnsafePointer<Float>?
  let gateStride: Int
  let planes: UnsafePointer<Float>
  let distance: Int
  let factors: UnsafePointer<Float>
  let orders, tokens, width: Int

  var parts: Int { unsafe ceilDivide(tokens, Self.rowsPerTask) }

  func run(_ index: Int, worker: Int) {
    let sample = unsafe index / parts
    let start = unsafe index % parts * Self.rowsPerTask
    let row = unsafe sample * tokens + start
    unsafe kernels.add_forecast(
      y + row * stride, stride, gate.map { unsafe $0 + sample * gateStride }, planes + row * width, distance, factors,
      orders, min(Self.rowsPerTask, tokens - start), width)
  }
}
