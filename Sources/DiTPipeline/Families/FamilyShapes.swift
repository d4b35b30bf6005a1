import DiTDiffusion
import DiTFiles
import DiTModel
import DiTTensor

/// The configuration of a JiT or pMF network whose state dict has the engine's names.
///
/// Shapes tell all sizes, and the heads by the width of the norm of q. What they do not tell, the block before which JiT's
/// in-context tokens join and ς, the arguments stored with a checkpoint of JiT's trainer do, else the published size of that
/// depth and width; of another size the user has to.
struct FamilyShapes {
  let network: DiTConfiguration
  let diffusion: DiffusionConfiguration
  /// As the stored arguments say; nil is as the family's authors do.
  let sampling: SamplingConfiguration?
  let notes: [String]

  /// - Parameter classes: their number, and the share that was dropped.
  /// - Throws: `DiTError` when a tensor that tells a size is missing or of another rank, or nothing tells a key.
  init(
    _ shapes: StateDictShapes, _ family: ModelFamily, classes: (count: Int, dropout: Double),
    arguments: ProgramArguments, keys: ModelKeys?
  ) throws {
    let narrow = try shapes.shape("x_embedder.proj1.weight", "[B, C, P, P]", rank: 4)
    let wide = try shapes.shape("x_embedder.proj2.weight", "[D, B, 1, 1]", rank: 4)
    let patch = narrow[2]
    guard patch == narrow[3] else { throw shapes.failure("x_embedder.proj1.weight", "[B, C, P, P]") }
    let d = wide[0]
    var network = family.network()
    (network.patchBottleneck, network.inChannels, network.patchSize) = (narrow[0], narrow[1], patch)
    (network.hiddenSize, network.depth) = (d, shapes.depth)
    (network.numClasses, network.classDropoutProb) = (classes.count, classes.dropout)
    let head = try shapes.shape("blocks.0.attn.q_norm.weight", "[D/heads]", rank: 1)[0]
    guard d % head == 0 else { throw shapes.failure("blocks.0.attn.q_norm.weight", "[D/heads], a divisor of D = \(d)") }
    network.numHeads = d / head
    let hidden = try shapes.shape("blocks.0.mlp.w3.weight", "[D, M]", rank: 2)[1]
    if hidden != network.mlpSize { network.mlpHidden = hidden }
    network.bias.qkv = shapes.has("blocks.0.attn.qkv.bias")
    network.bias.proj = shapes.has("blocks.0.attn.proj.bias")
    network.bias.mlp = shapes.has("blocks.0.mlp.w3.bias")
    network.bias.patchBottleneck = shapes.has("x_embedder.proj1.bias")
    let before = try Self.tokensBefore(shapes, family, &network)
    if keys?.value("input_size") == nil {
      let rows = try shapes.shape(PositionTable.name, "[1, tokens, D]", rank: 3)[1] - before
      let side = Int(Double(max(0, rows)).squareRoot().rounded())
      guard side > 0, side * side == rows else {
        throw shapes.failure(
          PositionTable.name, "[1, L, D] with L a square number after \(before) (else --config FILE with input_size)")
      }
      (network.inputHeight, network.inputWidth) = (side * patch, side * patch)
    }
    let size = PublishedSize.all.first { $0.family == family && $0.has(network) }
    if family == .jit, network.inContextTokens > 0 {
      let named = PublishedSize.all.first { $0.name == arguments.text("model") && $0.depth == network.depth }
      guard let start = size?.start ?? keys?.integer("in_context_start") ?? named?.start else {
        throw DiTError(
          file: shapes.file.path, .key("in_context_start"),
          expected:
            "--config FILE with in_context_start, the block before which the \(network.inContextTokens) tokens join",
          found: "\(network.depth) blocks of width \(d), for which none is published")
      }
      network.inContextStart = start
    }
    let stored = family == .jit ? JiTArguments(arguments) : nil
    if let dropped = stored?.classDropout { network.classDropoutProb = dropped }
    self.network = network
    var diffusion = family.diffusion(variance: .standard(network), noiseScale: size?.noiseScale ?? 1)
    stored?.apply(to: &diffusion)
    self.diffusion = diffusion
    sampling = network.hasUnconditional ? stored?.sampling : nil
    let isStated = size != nil || stored?.noiseScale != nil || keys?.value("diffusion") != nil
    notes =
      isStated
      ? []
      : [
        "\(shapes.file.path): no published size; noise of unit variance is assumed (--config FILE with diffusion.noise_scale)"
      ]
  }

  /// The whole configuration, with what the user states in its place.
  ///
  /// - Throws: `DiTError` where sizes do not fit, or `heads` is another number than the shapes'.
  func checked(
    _ shapes: StateDictShapes, _ family: ModelFamily, heads: Int?, keys: ModelKeys?
  ) throws -> CheckedConfiguration {
    let path = shapes.file.path
    if let heads, heads != network.numHeads {
      throw DiTError(
        file: path, .argument("heads"), expected: "\(network.numHeads), as blocks.0.attn.q_norm.weight says",
        found: "\(heads)")
    }
    let model = ModelConfiguration(network: network, diffusion: diffusion, sampling: sampling, family: family)
    if let keys, case .object(let members) = model.json {
      // How it is sampled follows from the family, once all sizes are known, where nothing is stored.
      return try keys.configuration(defaults: members.filter { sampling != nil || $0.key != "sampling" })
    }
    do throws(DiTError) {
      return try CheckedConfiguration(model, file: path)
    } catch {
      throw DiTError(file: path, error.subject.part, expected: "usable sizes", found: error.problem)
    }
  }

  /// Tokens that have rows of the position table before the image's.
  private static func tokensBefore(
    _ shapes: StateDictShapes, _ family: ModelFamily, _ network: inout DiTConfiguration
  ) throws -> Int {
    func count(_ name: String) throws -> Int {
      shapes.has(name) ? try shapes.shape(name, "[1, tokens, D]", rank: 3)[1] : 0
    }
    if family == .jit {
      network.inContextTokens = try count("in_context_posemb")
      return 0
    }
    let groups = TokenGroups(
      classes: try count("class_tokens"), omega: try count("omega_tokens"), tMin: try count("t_min_tokens"),
      tMax: try count("t_max_tokens"), time: try count("time_tokens"))
    network.tokenGroups = groups
    return groups.count
  }
}
