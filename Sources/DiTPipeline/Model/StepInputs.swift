import DiTDiffusion
import DiTModel
import DiTTensor

/// What a network that is told guidance (`DiTConfiguration/isToldGuidance`) is told about N steps from t to r, beside their
/// classes. What `token_groups` has no tokens for is empty.
public struct StepInputs: Equatable, Sendable {
  /// t − r in the network's time, (N): `h` of files.
  public var lengths: [Float]
  /// ω ≥ 1, (N), 1 being no guidance: `w` of files.
  public var scales: [Float]
  /// Where guidance begins, in the network's time, (N): `t_min` of files.
  public var starts: [Float]
  /// Where it ends, (N): `t_max`.
  public var ends: [Float]

  public init(lengths: [Float], scales: [Float] = [], starts: [Float] = [], ends: [Float] = []) {
    (self.lengths, self.scales, self.starts, self.ends) = (lengths, scales, starts, ends)
  }

  /// Throws unless there are N values of what the network is told, and none of what it is not.
  func check(_ network: DiTConfiguration, _ process: DiffusionProcess, samples: Int) throws(DiTError) {
    let groups = network.tokenGroups ?? TokenGroups()
    let times = process.timeRange
    let inTimes = "a time in 0…\(Int(times.upperBound))"
    try check("h", lengths, groups.time, samples, times, inTimes)
    try check("w", scales, groups.omega, samples, 1...Float.greatestFiniteMagnitude, "a finite scale of at least 1")
    try check("t_min", starts, groups.tMin, samples, times, inTimes)
    try check("t_max", ends, groups.tMax, samples, times, inTimes)
  }

  private func check(
    _ name: String, _ values: [Float], _ tokens: Int, _ samples: Int, _ range: ClosedRange<Float>, _ expected: String
  ) throws(DiTError) {
    guard values.count == (tokens > 0 ? samples : 0) else {
      throw DiTError(
        argument: name,
        expected: tokens > 0 ? "\(samples) values, one per image" : "none, as token_groups has none for it",
        found: "\(values.count)")
    }
    for value in values where !(range ~= value) {
      throw DiTError(argument: name, expected: expected, found: "\(value)")
    }
  }

  /// Appends what image n's row of the modulation is made of.
  func append(_ n: Int, of network: DiTConfiguration, to row: inout [Float]) {
    func value(_ values: [Float]) -> Float { values.isEmpty ? 0 : values[n] }
    network.tell(
      value(lengths), scale: scales.isEmpty ? 1 : scales[n], from: value(starts), to: value(ends), in: &row)
  }
}

extension DiTConfiguration {
  /// Appends what the network embeds for one image: the time, or, of a network that is told guidance, 1 − 1/ω, the interval's
  /// ends and the step's length, as far as it has tokens for them.
  func tell(_ time: Float, scale: Float, from start: Float, to end: Float, in row: inout [Float]) {
    guard isToldGuidance, let groups = tokenGroups else { return row.append(time) }
    if groups.omega > 0 { row.append(1 - 1 / scale) }
    if groups.tMin > 0 { row.append(start) }
    if groups.tMax > 0 { row.append(end) }
    if groups.time > 0 { row.append(time) }
  }

  /// Throws `DiTError` unless a sampler tells the network what it is told: `meanflow` one that is told guidance and the
  /// step's length, every other one a network that is told its time.
  public func check(_ sampler: SamplerName) throws(DiTError) {
    guard isToldGuidance != (sampler == .meanflow) else { return }
    throw DiTError(
      option: "sampler",
      expected: isToldGuidance
        ? "meanflow, as token_groups tell the network guidance and a step's length"
        : "another one, as token_groups tell the network no guidance and no step's length", found: sampler.rawValue)
  }
}

extension Guidance {
  /// Whether a network needs an unconditional pass at a time: one that is told guidance never does.
  func needsSecondPass(_ network: DiTConfiguration, at time: NetworkTime) -> Bool {
    !network.isToldGuidance && isActive(at: time)
  }

  /// With an interval, where the network is told one.
  ///
  /// - Parameter standard: whose interval is taken where there is none here; 0…1 where it has none either.
  func resolved(_ network: DiTConfiguration, _ process: DiffusionProcess, _ standard: Guidance) -> Guidance {
    guard network.isToldInterval, interval == nil else { return self }
    var guidance = self
    guidance.interval = standard.interval ?? Double(process.timeRange.lowerBound)...Double(process.timeRange.upperBound)
    return guidance
  }

  /// What a network embeds at each evaluation of a process, ``DiTConfiguration/timeInputs`` numbers each,
  /// ``resolved(_:_:_:)`` guidance being told.
  func told(_ network: DiTConfiguration, _ process: any ReverseProcess) -> [Float] {
    let count = process.evaluations.count
    var rows: [Float] = []
    rows.reserveCapacity(count * network.timeInputs)
    for evaluation in 0..<count {
      network.tell(
        process.told(at: evaluation), scale: Float(scale), from: Float(interval?.lowerBound ?? 0),
        to: Float(interval?.upperBound ?? 1), in: &rows)
    }
    return rows
  }

  /// Throws unless a network can be told so.
  func validate(toldTo network: DiTConfiguration, _ process: DiffusionProcess) throws(DiTError) {
    guard scale.isFinite, scale >= 1, Float(scale).isFinite else {
      throw DiTError(
        option: "guidance", expected: "a finite ω of at least 1, as the network is told it", found: "\(scale)")
    }
    guard scale == 1 || network.tokenGroups?.omega ?? 0 > 0 else {
      throw DiTError(option: "guidance", expected: "1, as token_groups has none for omega", found: "\(scale)")
    }
    if let channels {
      throw DiTError(
        option: "guidance_channels", expected: "none, as the network is told guidance", found: "\(channels)")
    }
    guard let interval else { return }
    guard network.isToldInterval else {
      throw DiTError(
        option: "guidance_interval", expected: "none, as token_groups has none for t_min and t_max",
        found: Self.text(interval))
    }
    let times = Double(process.timeRange.lowerBound)...Double(process.timeRange.upperBound)
    guard interval.clamped(to: times) == interval else {
      throw DiTError(
        option: "guidance_interval", expected: "times in 0…\(Int(times.upperBound)), as the network is told them",
        found: Self.text(interval))
    }
  }
}
