import DiTDiffusion
import DiTTensor
import Testing

@Suite("Which timesteps are kept") struct StepScheduleTests {
  static let rules: [StepSchedule] = [.leading, .trailing, .linspace]
  static let repaired: [StepSchedule] = [.quadratic] + [0, 0.5, 1, 2].map { .jump(exponent: $0) }
  static let betas = [Double](repeating: 0.01, count: 1000)

  /// Exactly S ascending steps inside 0…T−1 for every S, and S = 1 keeps T−1.
  @Test(
    "Each rule keeps exactly S ascending steps inside the chain, for every S",
    arguments: rules + repaired, [1, 2, 3, 7, 64, 1000, 1001])
  func everyCountIsExact(_ rule: StepSchedule, _ steps: Int) throws {
    var wrong: [Int] = []
    let betas = try noiseSchedule(.cosine, steps: steps).betas
    for count in 1...steps {
      let kept = try rule.timesteps(count: count, betas: betas)
      let ascends = zip(kept, kept.dropFirst()).allSatisfy { $0 < $1 }
      let inside = kept.allSatisfy { 0..<steps ~= $0 }
      if kept.count != count || !ascends || !inside { wrong.append(count) }
    }
    #expect(wrong.isEmpty, "\(rule), T = \(steps): wrong for S = \(wrong.prefix(5))")
    #expect(try rule.timesteps(count: 1, betas: betas) == [steps - 1])
    #expect(try rule.timesteps(count: steps, betas: betas) == Array(0..<steps))
  }

  /// diffusers' grids where they follow our rule, and the reference's respacing.
  @Test("leading, trailing and linspace are the reference implementations' grids", arguments: rules)
  func gridsAreTheReferences(_ rule: StepSchedule) throws {
    let fixture = try Fixture("schedules")
    let names = fixture.names.filter { $0.hasPrefix("grid.\(rule).") }
    #expect(names.count >= 6)
    for name in names {
      let expected = try fixture.integers(name)
      #expect(try rule.timesteps(count: expected.count, betas: Self.betas) == expected, "\(name)")
    }
  }

  /// Halves, written out: both roundings go to the even neighbor.
  @Test("Halves round to the even step")
  func halvesGoToEven() throws {
    // T − i·T/S = 10, 7.5, 5, 2.5
    #expect(try StepSchedule.trailing.timesteps(count: 4, betas: Array(Self.betas.prefix(10))) == [1, 4, 7, 9])
    // i·9/6 = 0, 1.5, 3, 4.5, 6, 7.5, 9
    #expect(
      try StepSchedule.linspace.timesteps(count: 7, betas: Array(Self.betas.prefix(10))) == [0, 2, 3, 4, 6, 8, 9])
    // 10/4 rounded down
    #expect(try StepSchedule.leading.timesteps(count: 4, betas: Array(Self.betas.prefix(10))) == [0, 2, 4, 6])
  }

  /// numpy's sums and rounding.
  @Test("quadratic and jump keep the steps that NumPy computes", arguments: [BetaSchedule.linear, .cosine])
  func chosenStepsAreTheOracles(_ schedule: BetaSchedule) throws {
    let fixture = try Fixture("predictions")
    let prefix = "steps:\(schedule.rawValue):"
    let names = fixture.names.filter { $0.hasPrefix(prefix) }
    #expect(names.count == (schedule == .linear ? 25 : 20))
    let betas = try noiseSchedule(schedule).betas
    for name in names {
      let expected = try fixture.integers(name)
      let words = name.dropFirst(prefix.count).split(separator: ":").dropLast()
      let rule = try StepSchedule(parsing: words.joined(separator: ":"))
      #expect(try rule.timesteps(count: expected.count, betas: betas) == expected, "\(name)")
    }
  }

  /// Every S from 2 to 1000: S strictly ascending steps from 0 to T−1.
  @Test(
    "quadratic and jump span the chain from 0 to T-1 without repeats",
    arguments: repaired, [BetaSchedule.linear, .cosine])
  func repairedRulesSpanTheChain(_ rule: StepSchedule, _ schedule: BetaSchedule) throws {
    let betas = try noiseSchedule(schedule).betas
    var wrong: [Int] = []
    for count in 2...1000 {
      let kept = try rule.timesteps(count: count, betas: betas)
      let ascends = zip(kept, kept.dropFirst()).allSatisfy { $0 < $1 }
      if kept.count != count || !ascends || kept.first != 0 || kept.last != 999 { wrong.append(count) }
    }
    #expect(wrong.isEmpty, "\(rule), \(schedule): wrong for S = \(wrong.prefix(5))")
  }

  /// Equal β: F is t+1 times a constant, so every γ is uniform, and a half goes down. High β: longer strides.
  @Test("jump takes long strides where beta is high, and even ones where it is constant")
  func jumpsAreLongWhereBetaIsHigh() throws {
    let flat = try StepSchedule.jump(exponent: 1).timesteps(count: 3, betas: [Double](repeating: 0.5, count: 8))
    #expect(flat == [0, 3, 7])  // 3.5
    let kept = try StepSchedule.jump(exponent: 1).timesteps(count: 50, betas: noiseSchedule().betas)
    let strides = zip(kept, kept.dropFirst()).map { $1 - $0 }
    #expect(strides[48] > 4 * strides[0], "\(strides)")
    #expect(try StepSchedule(parsing: "jump") == .jump(exponent: 0.5))
  }

  @Test("custom keeps the list it is given")
  func customKeepsItsList() throws {
    let rule = StepSchedule.custom([0, 5, 999])
    #expect(try rule.timesteps(count: nil, betas: Self.betas) == [0, 5, 999])
    #expect(try rule.timesteps(count: 3, betas: Self.betas) == [0, 5, 999])
  }

  @Test(
    "Counts out of range and lists that do not ascend are refused",
    arguments: [
      (StepSchedule.leading, 0 as Int?, "steps: expected 1…1000, found 0"),
      (.trailing, -1, "steps: expected 1…1000, found -1"),
      (.linspace, 1001, "steps: expected 1…1000, found 1001"),
      (.linspace, nil, "steps: expected 1…1000, found none"),
      (.jump(exponent: 1), 1001, "steps: expected 1…1000, found 1001"),
      (.quadratic, 0, "steps: expected 1…1000, found 0"),
      (
        .jump(exponent: 200), 5,
        "schedule: expected jump:γ with γ ≥ 0 and a finite sum of β^(−γ), found jump:200.0"
      ),
      (.custom([1, 2]), 3, "steps: expected the 2 of the custom schedule, found 3"),
      (.custom([]), nil, "schedule: expected at least one step, found none"),
      (.custom([0, 1000]), nil, "schedule: expected steps in 0…999, found 1000"),
      (.custom([-1]), nil, "schedule: expected steps in 0…999, found -1"),
      (.custom([4, 4]), nil, "schedule: expected strictly ascending steps, found 4,4"),
      (.custom([9, 4]), nil, "schedule: expected strictly ascending steps, found 9,4"),
    ])
  func impossibleCountsAndListsAreRefused(_ rule: StepSchedule, _ count: Int?, _ message: String) throws {
    let error = #expect(throws: DiTError.self) { try rule.timesteps(count: count, betas: Self.betas) }
    #expect(error?.description == message)
  }

  @Test(
    "A rule's description parses to the same rule",
    arguments: rules + repaired + [.custom([3]), .custom([0, 17, 999])])
  func descriptionIsReadBack(_ rule: StepSchedule) throws {
    #expect(try StepSchedule(parsing: rule.description) == rule)
  }

  @Test(
    "Words that are no rule are refused with the rules there are",
    arguments: [
      ("", "schedule: expected leading, trailing, linspace, quadratic, jump, jump:γ or custom:T1,T2,…, found ''"),
      (
        "Leading",
        "schedule: expected leading, trailing, linspace, quadratic, jump, jump:γ or custom:T1,T2,…, found 'Leading'"
      ),
      ("jump:", "schedule: expected jump:γ with a number γ ≥ 0, found 'jump:'"),
      ("jump:-1", "schedule: expected jump:γ with a number γ ≥ 0, found 'jump:-1'"),
      ("jump:nan", "schedule: expected jump:γ with a number γ ≥ 0, found 'jump:nan'"),
      ("jump:inf", "schedule: expected jump:γ with a number γ ≥ 0, found 'jump:inf'"),
      ("custom:", "schedule: expected whole numbers between commas, found ''"),
      ("custom:1,,2", "schedule: expected whole numbers between commas, found ''"),
      ("custom:1,2.5", "schedule: expected whole numbers between commas, found '2.5'"),
      (
        "custom:99999999999999999999",
        "schedule: expected whole numbers between commas, found '99999999999999999999'"
      ),
    ])
  func otherWordsAreRefused(_ text: String, _ message: String) throws {
    let error = #expect(throws: DiTError.self) { try StepSchedule(parsing: text) }
    #expect(error?.description == message)
  }

  @Test("A respaced chain refuses steps that do not ascend")
  func aRespacedChainRefusesUnorderedSteps() throws {
    let schedule = try noiseSchedule()
    #expect(throws: DiTError.self) { try RespacedSchedule(schedule, keeping: [5, 3]) }
    #expect(throws: DiTError.self) { try RespacedSchedule(schedule, keeping: []) }
  }
}
