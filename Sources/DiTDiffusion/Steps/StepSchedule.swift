// Which S of the T training steps a sampler keeps. Kept steps ascend: τ_0 < … < τ_{S−1}; samplers walk them backwards.

import DiTTensor
import Foundation

/// A rule that keeps exactly S of T steps, for every 1 ≤ S ≤ T. S = 1 keeps T−1.
public enum StepSchedule: Equatable, Sendable {
  /// τ_i = i·⌊T/S⌋.
  case leading
  /// round(T − i·T/S) − 1, i = 0…S−1, exact before rounding, halves to even.
  case trailing
  /// τ_i = round(i·(T−1)/(S−1)), the stride accumulated in Double, halves to even: the reference's respacing.
  case linspace
  /// τ_k = round((T−1)(k/(S−1))²), exact before rounding, halves to even; then repaired to 0 = τ_0 < … < τ_{S−1} = T−1
  /// (Song, Meng & Ermon 2021 have one like it in their appendix D).
  case quadratic
  /// jump(γ), γ ≥ 0: long strides where β_t is high, short ones where it is low.
  ///
  /// With F(t) = Σ_{s≤t} β_s^{−γ}, τ_k is the index whose F is nearest to F_0 + k (F_{T−1} − F_0)/(S−1), the lower of two
  /// as near; then repaired like `quadratic`. γ = 0 is uniform; ½ is what `jump` alone means.
  case jump(exponent: Double)
  /// These steps, ascending.
  case custom([Int])

  /// The kept steps, ascending, all in 0…T−1.
  ///
  /// - Parameters:
  ///   - count: S; may be nil for `custom`, and otherwise must equal the length of its list.
  ///   - betas: β_t of all T steps; only `jump` reads more than their number.
  /// - Throws: `DiTError` when S is missing or not in 1…T; the custom list is empty, out of range, not strictly
  ///   ascending or not S long; γ is negative or so large that a β^{−γ} overflows.
  public func timesteps(count: Int?, betas: [Double]) throws(DiTError) -> [Int] {
    let steps = betas.count
    precondition(steps > 0, "a chain of \(steps) steps has none to keep")
    if case .custom(let list) = self {
      try Self.check(list, of: steps)
      guard count == nil || count == list.count else {
        throw DiTError(option: "steps", expected: "the \(list.count) of the custom schedule", found: "\(count ?? 0)")
      }
      return list
    }
    let sums = try exponent.map { (exponent) throws(DiTError) in try Self.sums(betas, exponent) }
    guard let count, 1...steps ~= count else {
      throw DiTError(option: "steps", expected: "1…\(steps)", found: count.map { "\($0)" } ?? "none")
    }
    guard count > 1 else { return [steps - 1] }
    switch self {
    case .leading: return (0..<count).map { $0 * (steps / count) }
    case .trailing: return (1...count).map { Self.roundedQuotient($0 * steps, count) - 1 }
    case .linspace: return Self.linspace(count, of: steps)
    case .quadratic: return Self.repaired(Self.quadratic(count, of: steps), of: steps)
    case .jump: return Self.repaired(Self.nearest(count, to: sums ?? []), of: steps)
    case .custom(let list): return list
    }
  }

  /// γ of `jump`.
  private var exponent: Double? {
    if case .jump(let exponent) = self { exponent } else { nil }
  }

  private static func linspace(_ count: Int, of steps: Int) -> [Int] {
    let stride = Double(steps - 1) / Double(count - 1)
    var position = 0.0
    return (0..<count).map { _ in
      defer { position += stride }
      return Int(position.rounded(.toNearestOrEven))
    }
  }

  private static func quadratic(_ count: Int, of steps: Int) -> [Int] {
    let last = count - 1
    return (0..<count).map { roundedQuotient((steps - 1) * $0 * $0, last * last) }
  }

  /// a/b rounded to the nearest whole number, halves to even, without a floating-point step; a ≥ 0, b > 0.
  private static func roundedQuotient(_ a: Int, _ b: Int) -> Int {
    let (quotient, remainder) = a.quotientAndRemainder(dividingBy: b)
    let up = 2 * remainder > b || (2 * remainder == b && quotient % 2 == 1)
    return up ? quotient + 1 : quotient
  }

  // MARK: jump

  /// F(t) = Σ_{s≤t} β_s^{−γ}.
  private static func sums(_ betas: [Double], _ exponent: Double) throws(DiTError) -> [Double] {
    var sum = 0.0
    let sums = betas.map { beta in
      sum += pow(beta, -exponent)
      return sum
    }
    guard exponent >= 0, sum.isFinite else {
      throw DiTError(
        option: "schedule", expected: "jump:γ with γ ≥ 0 and a finite sum of β^(−γ)", found: "jump:\(exponent)")
    }
    return sums
  }

  /// For k = 0…S−1 the index whose sum is nearest to F_0 + k (F_{T−1} − F_0)/(S−1), the lowest of several as near.
  private static func nearest(_ count: Int, to sums: [Double]) -> [Int] {
    let (first, last) = (sums[0], sums[sums.count - 1])
    var above = 0
    return (0..<count).map { k in
      let target = first + Double(k) * (last - first) / Double(count - 1)
      while above < sums.count - 1, sums[above] < target { above += 1 }
      var index = above
      if above > 0, target - sums[above - 1] <= sums[above] - target { index -= 1 }
      while index > 0, sums[index - 1] == sums[index] { index -= 1 }
      return index
    }
  }

  /// The nearest list that strictly ascends from 0 to T−1: first no step under its predecessor + 1, then none over its
  /// successor − 1.
  private static func repaired(_ list: [Int], of steps: Int) -> [Int] {
    var kept = list
    kept[0] = 0
    for k in kept.indices.dropFirst() { kept[k] = max(kept[k], kept[k - 1] + 1) }
    kept[kept.count - 1] = steps - 1
    for k in kept.indices.dropLast().reversed() { kept[k] = min(kept[k], kept[k + 1] - 1) }
    return kept
  }

  // MARK: custom

  /// Refuses a list which is empty, leaves 0…T−1 or does not strictly ascend.
  static func check(_ list: [Int], of steps: Int) throws(DiTError) {
    guard !list.isEmpty else {
      throw DiTError(option: "schedule", expected: "at least one step", found: "none")
    }
    for (i, t) in list.enumerated() {
      guard 0..<steps ~= t else {
        throw DiTError(option: "schedule", expected: "steps in 0…\(steps - 1)", found: "\(t)")
      }
      guard i == 0 || list[i - 1] < t else {
        throw DiTError(option: "schedule", expected: "strictly ascending steps", found: "\(list[i - 1]),\(t)")
      }
    }
  }
}
