// The steps that diffusers' schedulers take, as their `set_timesteps` computes them with numpy.
//
// Letters: T training steps, S steps to take. DDIM, DDPM and PNDM keep S of T; DPM-Solver, UniPC and DEIS lay out S + 1 and
// leave the lowest out.

/// `timestep_spacing`.
enum DiffusersSpacing: String, CaseIterable {
  case leading, trailing, linspace

  /// The steps from the noisiest down, exactly numpy's. Mostly S inside 0…T−1, but not always: near S = T steps can repeat,
  /// `offset` can lead out of the chain, and for some S (the least is 61 of 1000) rounding gives trailing one step too many.
  ///
  /// - Parameters:
  ///   - last: T, or where a grid that leaves out the noisiest ones ends.
  ///   - offset: `steps_offset`, which leading alone reads.
  ///   - omitsLowest: whether one more is laid out and the lowest left out.
  func timesteps(count: Int, of steps: Int, last: Int, offset: Int, omitsLowest: Bool) -> [Int] {
    let points = omitsLowest ? count + 1 : count
    let kept = (omitsLowest ? 1 : 0)..<points
    switch self {
    case .leading:
      let stride = last / points
      return kept.reversed().map { $0 * stride + offset }
    case .linspace:
      // np.linspace(0, last−1, points).round()
      guard points > 1 else { return [0] }
      let stride = Double(last - 1) / Double(points - 1)
      return kept.reversed().map { $0 == points - 1 ? last - 1 : Self.rounded(Double($0) * stride) }
    case .trailing:
      // np.arange(last, 0, −T/S).round() − 1: the length from a rounded quotient, the stride from the second value.
      let stride = Double(steps) / Double(count)
      let length = Int((Double(last) / stride).rounded(.up))
      let delta = (Double(last) - stride) - Double(last)
      return (0..<length).map { Self.rounded(Double(last) + Double($0) * delta) - 1 }
    }
  }

  private static func rounded(_ value: Double) -> Int { Int(value.rounded(.toNearestOrEven)) }
}
