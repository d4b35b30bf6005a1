import DiTDiffusion
import Testing

@Suite struct StepScheduleTests {
  static let rules: [StepSchedule] = [.leading, .trailing, .linspace]

  /// Exactly S ascending steps inside 0…T−1 for every S, and S = 1 keeps T−1.
  @Test(arguments: rules, [1, 2, 3, 7, 64, 1000, 1001])
  func everyCountIsExact(_ rule: StepSchedule, _ steps: Int) throws {
    var wrong: [Int] = []
    for count in 1...steps {
      let kept = try rule.timesteps(count: count, of: steps)
      let ascends = zip(kept, kept.dropFirst()).allSatisfy { $0 < $1 }
      let inside = kept.allSatisfy { 0..<steps ~= $0 }
      if kept.count != count || !ascends || !inside { wrong.append(count) }
    }
    #expect(wrong.isEmpty, "\(rule), T = \(steps): wrong for S = \(wrong.prefix(5))")
    #expect(try rule.timesteps(count: 1, of: steps) == [steps - 1])
    #expect(try rule.timesteps(count: steps, of: steps) == Array(0..<steps))
  }

  /// diffusers' grids where they follow our rule, and the reference's respacing.
  @Test(arguments: rules)
  func gridsAreTheReferences(_ rule: StepSchedule) throws {
    let fixture = try Fixture("schedules")
    let names = fixture.names.filter { $0.hasPrefix("grid.\(rule).") }
    #expect(names.count >= 6)
    for name in names {
      let expected = try fixture.integers(name)
      #expect(try rule.timesteps(count: expected.count, of: 1000) == expected, "\(name)")
    }
  }

  /// Halves, written out: both roundings go to the even neighbour.
  @Test func halvesGoToEven() throws {
    // T − i·T/S = 10, 7.5, 5, 2.5
    #expect(try StepSchedule.trailing.timesteps(count: 4, of: 10) == [1, 4, 7, 9])
    // i·9/6 = 0, 1.5, 3, 4.5, 6, 7.5, 9
    #expect(try StepSchedule.linspace.timesteps(count: 7, of: 10) == [0, 2, 3, 4, 6, 8, 9])
    // 10/4 rounded down
    #expect(try StepSchedule.leading.timesteps(count: 4, of: 10) == [0, 2, 4, 6])
  }

  @Test func customKeepsItsList() throws {
    let rule = StepSchedule.custom([0, 5, 999])
    #expect(try rule.timesteps(count: nil, of: 1000) == [0, 5, 999])
    #expect(try rule.timesteps(count: 3, of: 1000) == [0, 5, 999])
  }

  @Test(arguments: [
    (StepSchedule.leading, 0 as Int?, "steps: expected 1…1000, found 0"),
    (.trailing, -1, "steps: expected 1…1000, found -1"),
    (.linspace, 1001, "steps: expected 1…1000, found 1001"),
    (.linspace, nil, "steps: expected 1…1000, found none"),
    (.custom([1, 2]), 3, "steps: expected the 2 of the custom schedule, found 3"),
    (.custom([]), nil, "custom schedule: expected at least one step, found none"),
    (.custom([0, 1000]), nil, "custom schedule: expected steps in 0…999, found 1000"),
    (.custom([-1]), nil, "custom schedule: expected steps in 0…999, found -1"),
    (.custom([4, 4]), nil, "custom schedule: expected strictly ascending steps, found 4,4"),
    (.custom([9, 4]), nil, "custom schedule: expected strictly ascending steps, found 9,4"),
  ])
  func impossibleCountsAndListsAreRefused(_ rule: StepSchedule, _ count: Int?, _ message: String) throws {
    let error = #expect(throws: DiffusionError.self) { try rule.timesteps(count: count, of: 1000) }
    #expect(error?.description == message)
  }

  @Test(arguments: rules + [.custom([3]), .custom([0, 17, 999])])
  func descriptionIsReadBack(_ rule: StepSchedule) throws {
    #expect(try StepSchedule(parsing: rule.description) == rule)
  }

  @Test(arguments: [
    ("", "schedule: expected leading, trailing, linspace or custom:T1,T2,…, found ''"),
    ("Leading", "schedule: expected leading, trailing, linspace or custom:T1,T2,…, found 'Leading'"),
    ("custom:", "custom schedule: expected whole numbers between commas, found ''"),
    ("custom:1,,2", "custom schedule: expected whole numbers between commas, found ''"),
    ("custom:1,2.5", "custom schedule: expected whole numbers between commas, found '2.5'"),
    (
      "custom:99999999999999999999",
      "custom schedule: expected whole numbers between commas, found '99999999999999999999'"
    ),
  ])
  func otherWordsAreRefused(_ text: String, _ message: String) throws {
    let error = #expect(throws: DiffusionError.self) { try StepSchedule(parsing: text) }
    #expect(error?.description == message)
  }

  @Test func aRespacedChainRefusesUnorderedSteps() throws {
    let schedule = try noiseSchedule()
    #expect(throws: DiffusionError.self) { try RespacedSchedule(schedule, keeping: [5, 3]) }
    #expect(throws: DiffusionError.self) { try RespacedSchedule(schedule, keeping: []) }
  }
}
