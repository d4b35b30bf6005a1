import DiTKernels
import DiTTensor

/// The tokens before all others that stand for what the network is told. Each is a vector of its own, if it has one, plus
/// the embedding of its group:
///
///   in_context         E_time(t), E_class(y)
///   in_context_tokens  E_class(y) + in_context_posemb[j], j = 0…K−1
///   tokens             class, omega, t_min, t_max, time: X_tokens[j] + E_X, and with a learned table pos_embed
///
/// They join the image's tokens before block `in_context_start` and leave after the last.
struct ConditionTokens: Sendable {
  struct Group: Sendable {
    let count: Int
    /// The tokens' own vectors, (1, count, D).
    let own: Int?
  }

  /// In order. Group g has the g-th of a row's conditions.
  let groups: [Group]
  /// The table that has rows for these tokens too, before the image's.
  let positions: Int?

  init(_ c: DiTConfiguration, positions: Int?, _ b: inout ParameterBuilder) {
    func own(_ name: String, _ count: Int) -> Group {
      Group(count: count, own: b.add(name, [1, count, c.hiddenSize], .normal(deviation: 0.02)))
    }
    switch c.conditioning {
    case .adaLNZero, .adaLN:
      groups = c.inContextTokens > 0 ? [own("in_context_posemb", c.inContextTokens)] : []
    case .additive: groups = []
    case .inContext: groups = [Group](repeating: Group(count: 1, own: nil), count: c.conditionTokens)
    case .tokens:
      groups = (c.tokenGroups?.members ?? []).filter { $0.count > 0 }.map { own("\($0.key)_tokens", $0.count) }
    }
    self.positions = c.positionTokens > c.tokens ? positions : nil
  }

  /// Vectors of D that a row of the modulation keeps: the groups' embeddings, or c itself with `additive`.
  static func conditions(_ c: DiTConfiguration) -> Int {
    switch c.conditioning {
    case .adaLNZero, .adaLN: c.inContextTokens > 0 ? 1 : 0
    case .additive: 1
    case .inContext: c.conditionTokens
    case .tokens: c.tokenGroups?.members.count { $0.count > 0 } ?? 0
    }
  }

  /// Writes a sample's tokens at the start of `x`, from its conditions (groups, D).
  func forward(_ network: DiTNetwork, into x: MutableFloatSlice, conditions: FloatSlice) {
    let d = network.configuration.hiddenSize
    eachToken { group, token, place in
      let row = x[place * d..<(place + 1) * d]
      row.copy(from: conditions[group * d..<(group + 1) * d])
      if let own = groups[group].own {
        network.context.add(network.weights.slices[own][token * d..<(token + 1) * d], to: row)
      }
      if let positions { network.context.add(network.weights.slices[positions][place * d..<(place + 1) * d], to: row) }
    }
  }

  /// The conditions' gradients of a sample, overwritten, and what its tokens' dx add to the vectors'.
  func backward(_ pass: BackwardPass, _ dx: FloatSlice, conditions: MutableFloatSlice) {
    let (d, context) = (pass.c.hiddenSize, pass.context)
    eachToken { group, token, place in
      let row = dx[place * d..<(place + 1) * d]
      let sum = conditions[group * d..<(group + 1) * d]
      if token == 0 { sum.copy(from: row) } else { context.add(row, to: sum) }
      if let own = groups[group].own { context.add(row, to: pass.gradient(own)[token * d..<(token + 1) * d]) }
      if let positions { context.add(row, to: pass.gradient(positions)[place * d..<(place + 1) * d]) }
    }
  }

  private func eachToken(_ body: (_ group: Int, _ token: Int, _ place: Int) -> Void) {
    var place = 0
    for (index, group) in groups.enumerated() {
      for token in 0..<group.count {
        body(index, token, place)
        place += 1
      }
    }
  }
}
