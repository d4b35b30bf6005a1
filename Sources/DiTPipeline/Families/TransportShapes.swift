import DiTFiles
import DiTKernels
import DiTModel
import DiTTensor

/// What tensors tell of a network of SiT's, REPA's or LightningDiT's form beyond DiT's sizes.
enum TransportShapes {
  /// The parts of LightningDiT: RMSNorm or LayerNorm, SwiGLU or GELU, with or without rotation.
  ///
  /// - Throws: `DiTError`.
  static func tell(_ shapes: StateDictShapes, _ network: inout DiTConfiguration) throws {
    let d = network.hiddenSize
    network.norm = shapes.has("blocks.0.norm1.weight") ? .rms : .layer
    if shapes.has("blocks.0.mlp.w12.weight") {
      let hidden = try shapes.shape("blocks.0.mlp.w3.weight", "[D, M]", rank: 2)[1]
      if hidden != network.mlpSize { network.mlpHidden = hidden }
    } else {
      network.mlp = .gelu
      let hidden = try shapes.shape("blocks.0.mlp.fc1.weight", "[M, D]", rank: 2)[0]
      if hidden != network.mlpSize { network.mlpHidden = hidden }
    }
    let rows = try shapes.shape("blocks.0.adaLN_modulation.1.weight", "[6D, D]", rank: 2)[0]
    guard rows == 6 * d else {
      throw shapes.failure(
        "blocks.0.adaLN_modulation.1.weight",
        "[6D, D] with D = \(d)\(rows == 4 * d ? " (wo_shift, a block without shifts, is not here)" : "")")
    }
  }

  /// Norms of q and k; without rotation tables there is no rotation.
  ///
  /// - Throws: `DiTError` for layer norms of q and k, which are not here.
  static func checkNorms(
    _ shapes: StateDictShapes, _ original: any TensorStore, _ network: inout DiTConfiguration
  ) throws {
    if network.position == .sincosRope, original.shape(of: table) == nil { network.position = .sincos }
    let (weight, bias) = ("blocks.0.attn.q_norm.weight", "blocks.0.attn.q_norm.bias")
    guard shapes.has(weight) else { return }
    guard !shapes.has(bias) else {
      throw DiTError(
        file: original.path, .tensor(bias),
        expected: "none: norms of q and k are RMS norms here, without biases", found: "a layer norm's bias")
    }
    network.qkNorm = true
  }

  private static let table = "feat_rope.freqs_cos"

  /// The number of heads as the norm of q or the rotation's table, as wide as a head, tell it; nil where neither is there.
  static func heads(_ store: any TensorStore, _ network: DiTConfiguration) -> Int? {
    for name in ["blocks.0.attn.q_norm.weight", table] {
      guard let head = store.shape(of: name)?.last, head > 0, network.hiddenSize % head == 0 else { continue }
      return network.hiddenSize / head
    }
    return nil
  }

  /// Throws unless q and k turn as this engine turns them: the tables, [L, d], are those of the grid, rows first.
  ///
  /// - Parameter network: usable.
  /// - Throws: `DiTError`; as reading a tensor does.
  static func checkRotation(_ store: any TensorStore, _ network: DiTConfiguration) throws {
    guard let order = network.position.rotation else { return }
    let (grid, d) = (network.inputGrid, network.headSize)
    let names = [table, "feat_rope.freqs_sin"].filter { store.shape(of: $0) != nil }
    for name in names where store.shape(of: name) != [network.tokens, d] {
      throw DiTError(
        file: store.path, .tensor(name), expected: "[\(network.tokens), \(d)], a row for each token",
        found: "\(store.shape(of: name) ?? [])")
    }
    guard !names.isEmpty else { return }
    let computed = MutableFloatSlice(zeros: network.tokens * 2 * d)
    rotaryTable(output: computed.mutableSpan, rows: grid.rows, columns: grid.columns, headSize: d, order: order)
    let values = computed.array
    for name in names {
      let stored = try Weights.finite(name, of: store).array
      for index in stored.indices {
        // A token has d cosines, then −sin, sin of each pair.
        let expected = values[index / d * 2 * d + (name == table ? index % d : d + (index % d | 1))]
        guard abs(stored[index] - expected) > PositionTable.tolerance else { continue }
        throw DiTError(
          file: store.path, .tensor(name),
          expected: "the rotation of a grid of \(grid.rows)×\(grid.columns), \(expected) at element \(index)",
          found: "\(stored[index])")
      }
    }
  }
}
