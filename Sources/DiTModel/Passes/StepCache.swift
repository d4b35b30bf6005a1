import DiTKernels
import DiTTensor

/// Which evaluations of a network are forecast from earlier ones instead of being computed: TaylorSeer (Liu et al. 2025,
/// arXiv 2503.06923), one evaluation in ``interval`` being whole, after two at the beginning.
///
/// A quantity y that was computed at evaluations e', e, … is expected k evaluations after the last of them to be
/// Σᵢ Fᵢ kⁱ / i!, with the difference quotients F₀ = y(e), Fᵢ₊₁ = (Fᵢ(e) − Fᵢ(e')) / (e − e').
public struct StepCaching: Hashable, Sendable, CustomStringConvertible {
  /// What is forecast.
  public enum Kind: String, CaseIterable, Sendable {
    /// In every block what attention and the feed-forward part make, before their gates, which are of the time at hand.
    case taylor
    /// What the last block leaves: a 2·depth-th of the memory, and nothing of a block is computed.
    case lite
  }

  public let kind: Kind
  /// N: of so many evaluations one is computed, 2…100.
  public let interval: Int
  /// The highest difference quotient that is used, 0…4.
  public let order: Int

  /// - Throws: `DiTError` of `cache` where a number is not in its range.
  public init(_ kind: Kind, interval: Int, order: Int = 2) throws(DiTError) {
    guard 2...100 ~= interval, 0...4 ~= order else {
      throw DiTError(
        option: "cache", expected: "an interval of 2…100 and an order of 0…4", found: "\(interval),\(order)")
    }
    (self.kind, self.interval, self.order) = (kind, interval, order)
  }

  /// Reads `taylor:N`, `taylor:N,ORDER`, `lite:N` or `lite:N,ORDER`.
  ///
  /// - Throws: `DiTError` of `cache`.
  public init(parsing text: String) throws(DiTError) {
    let words = text.split(separator: ":", omittingEmptySubsequences: false)
    let numbers = words.count == 2 ? words[1].split(separator: ",", omittingEmptySubsequences: false) : []
    guard let kind = Kind(rawValue: String(words[0])), 1...2 ~= numbers.count, let interval = Int(numbers[0]),
      let order = numbers.count == 2 ? Int(numbers[1]) : 2
    else {
      throw DiTError(option: "cache", expected: "taylor:N[,ORDER] or lite:N[,ORDER]", found: "'\(text)'")
    }
    try self.init(kind, interval: interval, order: order)
  }

  /// As ``init(parsing:)`` reads it.
  public var description: String { "\(kind.rawValue):\(interval),\(order)" }

  /// Bytes of a ``StepCache`` for at most `samples` images at once.
  public func byteCount(_ configuration: DiTConfiguration, samples: Int) -> Int {
    (slots(configuration) * (order + 1) + 1) * Self.planeElements(configuration, samples: samples) * 4
  }

  /// The quantities that are forecast.
  fileprivate func slots(_ c: DiTConfiguration) -> Int { kind == .lite ? 1 : 2 * c.depth }

  fileprivate static func planeElements(_ c: DiTConfiguration, samples: Int) -> Int {
    samples * c.totalTokens * c.hiddenSize
  }
}

/// What evaluations are forecast from, of one batch that goes through a sampler. One caller at a time.
public final class StepCache {
  public let caching: StepCaching
  private let configuration: DiTConfiguration
  private let samples: Int
  private let planes: MutableFloatSlice
  /// What a block makes, on its way into the planes.
  private let incoming: MutableFloatSlice
  /// Evaluations computed since the last restart.
  private var computed = 0
  /// Evaluations forecast since the last that was computed.
  private var forecast = 0
  /// From the computed evaluation before to the one at hand, or the last.
  private var distance = 1
  /// Of the evaluation at hand.
  private(set) var isForecasting = false
  private var factors: [Float] = []

  /// Memory for at most `samples` images at once: ``StepCaching/byteCount(_:samples:)``.
  public init(_ configuration: DiTConfiguration, _ caching: StepCaching, samples: Int) {
    (self.configuration, self.caching, self.samples) = (configuration, caching, samples)
    let plane = StepCaching.planeElements(configuration, samples: samples)
    planes = MutableFloatSlice(zeros: caching.slots(configuration) * (caching.order + 1) * plane)
    incoming = MutableFloatSlice(zeros: plane)
  }

  /// Forgets everything: the rows of the next evaluation are others.
  public func restart() { (computed, forecast) = (0, 0) }

  /// Decides whether the next evaluation, which is about to be made, is computed.
  ///
  /// - Returns: whether it is.
  @discardableResult public func advance() -> Bool {
    isForecasting = computed >= 2 && forecast < caching.interval - 1
    if isForecasting {
      forecast += 1
      var (factor, factors) = (Float(1), [Float]())
      for order in 0..<planeCount {
        factors.append(factor)
        factor *= Float(forecast) / Float(order + 1)
      }
      self.factors = factors
    } else {
      (distance, forecast) = (forecast + 1, 0)
      computed += 1
    }
    return !isForecasting
  }

  /// Those that hold something after the evaluation at hand.
  private var planeCount: Int { min(computed, caching.order + 1) }

  private func planes(_ slot: Int) -> ForecastPlanes {
    let plane = StepCaching.planeElements(configuration, samples: samples)
    let size = (caching.order + 1) * plane
    return ForecastPlanes(planes[slot * size..<(slot + 1) * size], distance: plane, count: planeCount)
  }

  /// Memory for what a half of a block makes, before its gate.
  func incoming(rows: Int) -> MutableMatrix {
    MutableMatrix(incoming, rows: rows, columns: configuration.hiddenSize)
  }

  /// Takes up what was computed, which lies without gaps.
  func keep(_ slot: Int, _ values: Matrix, _ context: ComputeContext) {
    context.update(planes(slot), with: values.elements, steps: distance)
  }

  /// y = the forecast, or y += gate ⊙ it.
  func add(_ slot: Int, to y: MutableMatrix, gate: Matrix?, tokens: Int, _ context: ComputeContext) {
    context.addForecast(into: y, gate: gate, planes(slot), factors: factors, tokens: tokens)
  }
}
