// Every scheduler class and key that diffusers reads on a β path, for nine numbers of steps, against diffusers' own
// schedulers around a fixed function of (x, t): Tests/Fixtures/diffusion/scheduler_cases.{json,safetensors}.

import DiTDiffusers
import DiTDiffusion
import DiTFiles
import DiTTensor
import TestSupport
import Testing

/// A case of the fixture.
private struct SchedulerCase: Sendable {
  let title: String
  let name: SamplerName
  let saved: DiffusersScheduler
  let eta: Double?
  let hasVarianceHalf: Bool
  /// For each number of steps the fixture's row, or how diffusers fails.
  let runs: [(steps: Int, row: Int?)]

  static let counts = [1, 2, 3, 7, 13, 20, 50, 999, 1000]

  static func all() throws -> [SchedulerCase] {
    let file = Fixture.path("scheduler_cases.json", folder: "diffusion")
    guard case .array(let lines) = try JSONValue(contentsOf: file) else { return [] }
    return try lines.map { try SchedulerCase($0, file) }
  }

  init(_ line: JSONValue, _ file: String) throws {
    var reader = try JSONObjectReader(line, file: file)
    let word = try reader.string("scheduler") ?? ""
    name = try #require(SamplerName(rawValue: word))
    let config = reader.value("config") ?? .null
    guard case .object(var members) = config else { throw DiTError(option: "config", expected: "an object", found: "") }
    hasVarianceHalf = members.contains { $0.key == "learned output" }
    members.removeAll { $0.key == "learned output" }
    if !members.contains(where: { $0.key == "_class_name" }) {
      members.append(JSONMember("_class_name", .string(try #require(name.diffusersClass))))
    }
    members = members.map { member in
      guard member.key == "trained_betas" else { return member }
      let betas = (0..<1000).map { t -> JSONValue in
        let share = Double(t) / 999
        return .number(1e-4 + 0.0199 * (share * share))
      }
      return JSONMember("trained_betas", .array(betas))
    }
    let eta = try reader.number("eta") ?? 0
    self.eta = eta > 0 ? eta : nil
    guard case .array(let results)? = reader.value("runs") else {
      throw DiTError(option: "runs", expected: "an array", found: "")
    }
    runs = zip(Self.counts, results).map { count, result in
      if case .integer(let row) = result { (count, row) } else { (count, nil) }
    }
    title = "\(word) \(config.text.filter { !$0.isNewline })"
    saved = try DiffusersScheduler(reading: JSONObjectReader(.object(members), file: file))
  }
}

/// The network of the fixture, its noise and its start, the same functions as in Scripts/fixtures/scheduler_cases.py.
enum SchedulerFunction {
  static let shape = BatchShape(samples: 2, channels: 2, height: 2, width: 2)
  static let start = (0..<16).map { Float(($0 * 13) % 11 - 5) / 4 }
  static let weights = (0..<16).map { Double(($0 * 5) % 7 - 3) / 4 }

  static func noise(_ k: Int, _ values: inout MutableSpan<Float>) {
    for i in values.indices { values[i] = Float((i * 17 + 31 * k) % 23 - 11) / 8 }
  }

  static func answer(_ x: Span<Float>, _ time: Float, hasVarianceHalf: Bool, _ output: inout MutableSpan<Float>) {
    let (u, stride) = (time / 1000, hasVarianceHalf ? 16 : 8)
    for i in 0..<16 {
      let (value, bias) = (x[i], Float((i * 7) % 5 - 2) / 4)
      let at = i / 8 * stride + i % 8
      output[at] = (0.25 + 0.75 * u) * value + 0.25 * value / (1 + value * value) + 0.125 * bias
      if hasVarianceHalf { output[at + 8] = value / (1 + abs(value)) }
    }
  }
}

@Suite("Every scheduler class and key of diffusers, for nine numbers of steps") struct SchedulerCaseTests {
  /// Of the largest magnitude.
  private static let tolerance = 1e-5

  /// Where diffusers' own float32 is out by more than 8e-6, measured against its code on float64 numbers, x in Float cannot be
  /// nearer: up to four times that, and never more than 2e-3.
  private static func tolerance(rounding: Double) -> Double {
    rounding > 8e-6 ? min(2e-3, max(tolerance, 4 * rounding)) : tolerance
  }

  /// What this library refuses although diffusers goes on, by key or option; the guide Sampling.md has the reasons.
  private static let refused: Set<String> = [
    "prediction_type", "rescale_betas_zero_snr", "solver_order", "steps", "steps_offset",
    "timestep_type", "use_flow_sigmas", "variance_type",
  ]

  /// What this library computes although diffusers fails: its words for another class, a variance whose name says what is
  /// meant, and limits of its own float32.
  private static func isAcceptedAlone(_ test: SchedulerCase) -> Bool {
    switch test.name {
    case .dpmpp, .deis: test.saved.algorithmType == "deis" || test.saved.useBetaSigmas ?? false
    case .unipc: test.saved.solverType == "bh1"
    case .ddpm: test.saved.varianceType == "fixed_large_log"
    case .eulerAncestral: test.saved.betaSchedule == "squaredcos_cap_v2"
    default: false
    }
  }

  private struct Outcome {
    var final: [Float]
    var trace: [(sum: Double, largest: Double)] = []
    var times = 0.0
  }

  private func run(_ process: any ReverseProcess, _ test: SchedulerCase) -> Outcome {
    var x = SchedulerFunction.start.map { Float(process.startScale * Double($0)) }
    var outcome = Outcome(final: [])
    var span = x.mutableSpan
    process.sample(
      &span, shape: SchedulerFunction.shape,
      predict: { x, step, output in
        var (sum, largest) = (0.0, 0.0)
        for i in 0..<16 {
          sum += SchedulerFunction.weights[i] * Double(x[i])
          largest = max(largest, abs(Double(x[i])))
        }
        outcome.trace.append((sum, largest))
        outcome.times += Double(step.evaluation + 1) * Double(step.time.value)
        SchedulerFunction.answer(x, step.time.value, hasVarianceHalf: test.hasVarianceHalf, &output)
      },
      noise: { step, noise in SchedulerFunction.noise(step.evaluation, &noise) })
    outcome.final = x
    return outcome
  }

  @Test("The states of every class, key and number of steps are diffusers' to 1e-5, or it is refused by name")
  func everyCaseIsDiffusersOrRefused() throws {
    let fixture = try Fixture("scheduler_cases", folder: "diffusion")
    let (finals, traces) = (try fixture.doubles("finals"), try fixture.doubles("traces"))
    let (times, scales) = (try fixture.doubles("times"), try fixture.doubles("scales"))
    let cases = try SchedulerCase.all()
    #expect(cases.count > 800)
    var (traceAt, compared, refusals, worst, rough, failures) = (0, 0, [String: Int](), 0.0, 0, [String]())
    for test in cases {
      for (steps, row) in test.runs {
        let label = "\(test.title), \(steps) steps"
        var process: (any ReverseProcess)?
        var refusal: DiTError?
        do throws(DiTError) {
          let noise = try test.saved.noise(test.hasVarianceHalf ? .learnedRange : .fixedSmall)
          process = try test.saved.process(test.name, on: noise, nil, count: steps, eta: test.eta)
        } catch {
          refusal = error
        }
        guard let row else {
          if process != nil, !Self.isAcceptedAlone(test) {
            failures.append("\(label): accepted, where diffusers fails")
          }
          continue
        }
        let evaluations = steps <= 13 ? try evaluations(test, steps) : 0
        defer { traceAt += 2 * evaluations }
        if let refusal {
          let key = refusal.schedulerKey ?? refusal.name
          refusals[key, default: 0] += 1
          if !Self.refused.contains(key) { failures.append("\(label): \(refusal)") }
          continue
        }
        guard let process else { continue }
        let found = run(process, test)
        compared += 1
        let expected = finals[16 * row..<16 * row + 16]
        let error = relativeError(found.final.map(Double.init), expected)
        let tolerance = Self.tolerance(rounding: scales[2 * row + 1])
        if !(error <= tolerance) { failures.append("\(label): \(error) at the end") }
        if error.isFinite { worst = max(worst, error) }
        if error > Self.tolerance { rough += 1 }
        if steps <= 13 {
          if found.trace.count != evaluations {
            failures.append("\(label): \(found.trace.count) evaluations of \(evaluations)")
          } else {
            let errors = found.trace.enumerated().map { k, seen in
              abs(seen.sum - traces[traceAt + 2 * k]) / max(seen.largest, traces[traceAt + 2 * k + 1])
            }
            if let k = errors.firstIndex(where: { !($0 <= 3 * tolerance) }) {
              failures.append("\(label): \(errors[k]) at evaluation \(k)")
            }
          }
        }
        if abs(found.times - times[row]) > 3e-7 * max(1, times[row]) {
          failures.append("\(label): timesteps \(found.times), expected \(times[row])")
        }
        let start = Float(process.startScale)
        if !test.name.isScaled, start != 1 || scales[2 * row] != 1 { failures.append("\(label): start \(start)") }
      }
    }
    let head = failures.prefix(40).joined(separator: "\n")
    #expect(failures.isEmpty, "\(failures.count) of \(compared):\n\(head)")
    #expect(traceAt == traces.count)
    #expect(worst > 1e-8, "diffusers' Float32 cannot be that exact: \(worst)")
    print("compared \(compared), worst \(worst), \(rough) above 1e-5, refused \(refusals.sorted { $0.key < $1.key })")
  }

  /// How often the network is asked in a run of the fixture.
  private func evaluations(_ test: SchedulerCase, _ steps: Int) throws -> Int {
    switch test.name {
    case .heun: 2 * steps - 1
    case .pndm: test.saved.skipPRKSteps ?? false ? steps + (steps > 1 ? 1 : 0) : steps + 9
    default: steps
    }
  }
}

extension SamplerName {
  /// Whether noise is multiplied by σ to start from.
  fileprivate var isScaled: Bool { [.euler, .eulerAncestral, .heun].contains(self) }
}
