import CDiTKernels
import DiTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// Flat loops over every parameter: one pass over memory each.

/// AdamW's constants (Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019).
public struct AdamW: Equatable, Sendable {
  /// Decay of the first moment.
  public var beta1: Float
  /// Decay of the second moment.
  public var beta2: Float
  /// Added to the root of the second moment.
  public var epsilon: Float
  /// Decoupled decay: w loses learningRate · weightDecay · w per step.
  public var weightDecay: Float

  public init(beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-8, weightDecay: Float = 0.05) {
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
  }
}

/// An exponential moving average of the weights: e = decay · e + (1 − decay) · w after every update.
public struct MovingAverage {
  public let values: MutableFloatSlice
  public var decay: Float

  public init(_ values: MutableFloatSlice, decay: Float) {
    self.values = values
    self.decay = decay
  }
}

extension ComputeContext {
  /// One step: m = β₁m + (1−β₁)g, v = β₂v + (1−β₂)g², w = (1 − ηλ)w − η m̂ / (√v̂ + ε); then the averages of w.
  ///
  /// - Parameters:
  ///   - weights: w, changed.
  ///   - firstMoment: m, changed.
  ///   - secondMoment: v, changed.
  ///   - gradient: g.
  ///   - gradientScale: multiplies g first (clipping, averaging over micro-batches).
  ///   - learningRate: η of this step.
  ///   - step: 1 for the first update; m̂ and v̂ divide by 1 − βˢᵗᵉᵖ.
  ///   - constants: β₁, β₂, ε and λ.
  ///   - averages: of the weights, updated while those are in cache.
  public func adamW(
    weights: MutableFloatSlice, firstMoment: MutableFloatSlice, secondMoment: MutableFloatSlice, gradient: FloatSlice,
    gradientScale: Float, learningRate: Float, step: Int, constants: AdamW, averages: [MovingAverage] = []
  ) {
    let count = gradient.count
    check(min(weights.count, firstMoment.count, secondMoment.count), atLeast: count, "AdamW state")
    for average in averages { check(average.values.count, atLeast: count, "a moving average") }
    precondition(step > 0, "AdamW counts its steps from 1, not \(step)")
    guard count > 0 else { return }
    let correction1 = Float(1 - pow(Double(constants.beta1), Double(step)))
    let correction2 = Float(1 - pow(Double(constants.beta2), Double(step)))
    let task = unsafe AdamWTask(
      kernels: kernels, w: weights.pointer, m: firstMoment.pointer, v: secondMoment.pointer, g: gradient.pointer,
      count: count, scale: gradientScale, learningRate: learningRate, constants: constants, correction1: correction1,
      correction2: correction2, averages: averages)
    unsafe parallel(ceilDivide(count, flatChunk), task)
  }

  /// x = 0.
  public func clear(_ x: MutableFloatSlice) {
    guard !x.isEmpty else { return }
    unsafe parallel(ceilDivide(x.count, flatChunk), ClearTask(x: x.pointer, count: x.count))
  }

  /// Σ x², added up in Double in a fixed order.
  ///
  /// - Parameters:
  ///   - x: any number of elements.
  ///   - scratch: one element for every 65,536 of x.
  public func sumOfSquares(_ x: FloatSlice, scratch: consuming MutableSpan<Double>) -> Double {
    let chunks = ceilDivide(x.count, flatChunk)
    check(scratch.count, atLeast: chunks, "norm scratch")
    guard !x.isEmpty else { return 0 }
    return unsafe scratch.withUnsafeMutableBufferPointer { sums in
      unsafe parallel(chunks, SumOfSquares(kernels: kernels, sums: sums.baseAddress!, x: x.pointer, count: x.count))
      var total = 0.0
      for chunk in 0..<chunks { unsafe total += sums[chunk] }
      return total
    }
  }

  /// Elements over which ``sumOfSquares(_:scratch:)`` sums at a time.
  public static let normBlock = flatChunk

  /// Elements of scratch that ``sumOfSquares(_:scratch:)`` needs.
  public static func normScratch(_ count: Int) -> Int { ceilDivide(count, flatChunk) }
}

@unsafe private struct AdamWTask: ParallelTask {
  let kernels: DiTKernelTable
  let w, m, v: UnsafeMutablePointer<Float>
  let g: UnsafePointer<Float>
  let count: Int
  let scale, learningRate: Float
  let constants: AdamW
  let correction1, correction2: Float
  let averages: [MovingAverage]

  /// Weights that stay in a core's cache, with what else a step reads, until their averages are made.
  private static let run = 1 << 12

  func run(_ index: Int, worker: Int) {
    let range = unsafe flatRange(index, of: count)
    for at in unsafe stride(from: range.lowerBound, to: range.upperBound, by: Self.run) {
      let length = unsafe min(Self.run, range.upperBound - at)
      unsafe kernels.adamw(
        w + at, m + at, v + at, g + at, scale, learningRate, constants.beta1, constants.beta2, constants.epsilon,
        constants.weightDecay, correction1, correction2, length)
      for average in unsafe averages {
        unsafe kernels.ema(average.values.pointer + at, w + at, average.decay, length)
      }
    }
  }
}

@unsafe private struct ClearTask: ParallelTask {
  let x: UnsafeMutablePointer<Float>
  let count: Int

  func run(_ index: Int, worker: Int) {
    let range = unsafe flatRange(index, of: count)
    unsafe (x + range.lowerBound).update(repeating: 0, count: range.count)
  }
}

@unsafe private struct SumOfSquares: ParallelTask {
  let kernels: DiTKernelTable
  let sums: UnsafeMutablePointer<Double>
  let x: UnsafePointer<Float>
  let count: Int

  func run(_ index: Int, worker: Int) {
    let range = unsafe flatRange(index, of: count)
    unsafe sums[index] = kernels.sum_squares(x + range.lowerBound, range.count)
  }
}
