// Which S of the T training steps a sampler keeps. Kept steps ascend: τ_0 < … < τ_{S−1}; samplers walk them backwards.

/// A rule that keeps exactly S of T steps, for every 1 ≤ S ≤ T. S = 1 keeps T−1.
public enum StepSchedule: Equatable, Sendable {
  /// τ_i = i·⌊T/S⌋.
  case leading
  /// round(T − i·T/S) − 1, i = 0…S−1, exact before rounding, halves to even.
  case trailing
  /// τ_i = round(i·(T−1)/(S−1)), the stride accumulated in Double, halves to even: the reference's respacing.
  case linspace
  /// These steps, ascending.
  case custom([Int])

  /// The kept steps, ascending, all in 0…T−1.
  ///
  /// - Parameters:
  ///   - count: S; may be nil for `custom`, and otherwise must equal the length of its list.
  ///   - steps: T.
  /// - Throws: `DiffusionError` when S is missing or not in 1…T, or the custom list is empty, out of range, not strictly
  ///   ascending or not S long.
  public func timesteps(count: Int?, of steps: Int) throws(DiffusionError) -> [Int] {
    precondition(steps > 0, "a chain of \(steps) steps has none to keep")
    if case .custom(let list) = self {
      try Self.check(list, of: steps)
      guard count == nil || count == list.count else {
        throw DiffusionError("steps", expected: "the \(list.count) of the custom schedule", found: "\(count ?? 0)")
      }
      return list
    }
    guard let count, 1...steps ~= count else {
      throw DiffusionError("steps", expected: "1…\(steps)", found: count.map { "\($0)" } ?? "none")
    }
    guard count > 1 else { return [steps - 1] }
    switch self {
    case .leading: return (0..<count).map { $0 * (steps / count) }
    case .trailing: return (1...count).map { Self.roundedQuotient($0 * steps, count) - 1 }
    case .linspace: return Self.linspace(count, of: steps)
    case .custom(let list): return list
    }
  }

  private static func linspace(_ count: Int, of steps: Int) -> [Int] {
    let stride = Double(steps - 1) / Double(count - 1)
    var position = 0.0
    return (0..<count).map { _ in
      defer { position += stride }
      return Int(position.rounded(.toNearestOrEven))
    }
  }

  /// a/b rounded to the nearest whole number, halves to even, without a floating-point step; a ≥ 0, b > 0.
  private static func roundedQuotient(_ a: Int, _ b: Int) -> Int {
    let (quotient, remainder) = a.quotientAndRemainder(dividingBy: b)
    let up = 2 * remainder > b || (2 * remainder == b && quotient % 2 == 1)
    return up ? quotient + 1 : quotient
  }

  /// Refuses a list which is empty, leaves 0…T−1 or does not strictly ascend.
  static func check(_ list: [Int], of steps: Int) throws(DiffusionError) {
    guard !list.isEmpty else {
      throw DiffusionError("custom schedule", expected: "at least one step", found: "none")
    }
    for (i, t) in list.enumerated() {
      guard 0..<steps ~= t else {
        throw DiffusionError("custom schedule", expected: "steps in 0…\(steps - 1)", found: "\(t)")
      }
      guard i == 0 || list[i - 1] < t else {
        throw DiffusionError("custom schedule", expected: "strictly ascending steps", found: "\(list[i - 1]),\(t)")
      }
    }
  }
}

extension StepSchedule: CustomStringConvertible {
  /// Reads what `description` writes: `leading`, `trailing`, `linspace` or `custom:T1,T2,…`.
  ///
  /// - Throws: `DiffusionError` for another word, or a list with anything but whole numbers in it.
  public init(parsing text: String) throws(DiffusionError) {
    switch text {
    case "leading": self = .leading
    case "trailing": self = .trailing
    case "linspace": self = .linspace
    default:
      let prefix = "custom:"
      guard text.hasPrefix(prefix) else {
        throw DiffusionError("schedule", expected: "leading, trailing, linspace or custom:T1,T2,…", found: "'\(text)'")
      }
      var list: [Int] = []
      for word in text.dropFirst(prefix.count).split(separator: ",", omittingEmptySubsequences: false) {
        guard let t = Int(word) else {
          throw DiffusionError("custom schedule", expected: "whole numbers between commas", found: "'\(word)'")
        }
        list.append(t)
      }
      self = .custom(list)
    }
  }

  public var description: String {
    switch self {
    case .leading: "leading"
    case .trailing: "trailing"
    case .linspace: "linspace"
    case .custom(let list): "custom:" + list.map { "\($0)" }.joined(separator: ",")
    }
  }
}
