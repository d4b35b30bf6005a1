import DiTKernels
import DiTTensor

/// The sizes of a Diffusion Transformer (Peebles & Xie, "Scalable Diffusion Models with Transformers", ICCV 2023).
public struct DiTConfiguration: Equatable, Sendable {
  /// H of the input, in pixels or latent cells.
  public var inputHeight: Int
  /// W of the input.
  public var inputWidth: Int
  /// P; divides H and W.
  public var patchSize: Int
  /// C.
  public var inChannels: Int
  /// D.
  public var hiddenSize: Int
  /// The number of blocks.
  public var depth: Int
  /// h; divides D.
  public var numHeads: Int
  /// The MLP's hidden size over D.
  public var mlpRatio: Double
  /// Classes without the null class; 0 is an unconditional model.
  public var numClasses: Int
  /// The share of samples trained without class and sequence: the null class, the empty sequence. 0 leaves the null row out.
  public var classDropoutProb: Double
  /// Whether the network also predicts the variance, in a second set of C channels.
  public var learnSigma: Bool
  /// How image tokens know where they are.
  public var position = PositionEncoding.sincos
  /// What the time MLP is given.
  public var timeFrequencies = TimeFrequencies.dit
  /// How time and class enter.
  public var conditioning = Conditioning.adaLNZero
  /// Whether every block embeds time and class with weights of its own.
  public var embedders = Embedders.shared
  /// ε of a block's second LayerNorm, the MLP's; that of all others is 1e-6.
  public var norm2Epsilon = Self.publishedEpsilon
  /// The token sequence that conditions the model too, if any.
  public var sequence: SequenceSource?
  /// How attention depends on the noise level.
  public var attention = AttentionConfiguration()
  /// What the residual stream is normalized by.
  public var norm = Normalization.layer
  /// The feed-forward part.
  public var mlp = FeedForwardKind.gelu
  /// Its hidden size; nil: ``mlpRatio`` · D, and of that two thirds for `swiglu`.
  public var mlpHidden: Int?
  /// Whether q and k are normalized per head, by RMSNorm with a weight, before they turn.
  public var qkNorm = false
  /// The width between the two linear maps of a bottleneck patch embedding; nil: one map.
  public var patchBottleneck: Int?
  /// Tokens that the class brings along: its embedding plus a position of each token's own.
  public var inContextTokens = 0
  /// The block before which they join; they leave after the last.
  public var inContextStart = 0
  /// With `conditioning: tokens`.
  public var tokenGroups: TokenGroups?
  /// What multiplies the halves of a block.
  public var residualGates = ResidualGates.adaLN
  /// Which linear layers have a bias.
  public var bias = Biases()

  /// ε of the published DiT's LayerNorms.
  public static let publishedEpsilon = 1e-6

  /// Defaults are DiT-S/2 on 32×32×4 latents.
  public init(
    inputHeight: Int = 32, inputWidth: Int = 32, patchSize: Int = 2, inChannels: Int = 4, hiddenSize: Int = 384,
    depth: Int = 12, numHeads: Int = 6, mlpRatio: Double = 4, numClasses: Int = 1000, classDropoutProb: Double = 0.1,
    learnSigma: Bool = true
  ) {
    self.inputHeight = inputHeight
    self.inputWidth = inputWidth
    self.patchSize = patchSize
    self.inChannels = inChannels
    self.hiddenSize = hiddenSize
    self.depth = depth
    self.numHeads = numHeads
    self.mlpRatio = mlpRatio
    self.numClasses = numClasses
    self.classDropoutProb = classDropoutProb
    self.learnSigma = learnSigma
  }

  /// C, or 2C with a learned variance.
  public var outChannels: Int { learnSigma ? 2 * inChannels : inChannels }
  /// L.
  public var tokens: Int { inputHeight / patchSize * (inputWidth / patchSize) }
  /// Tokens of the conditioning sequence, padding included; 0 without one.
  public var sequenceLength: Int {
    switch sequence {
    case nil: 0
    case .text(let length): length
    case .image(let height, let width): height / patchSize * (width / patchSize)
    }
  }
  /// Tokens that stand for what the network is told: time and class, or groups of ``tokenGroups``, or the class's
  /// ``conditionTokens``.
  public var conditionTokens: Int {
    switch conditioning {
    case .inContext: labelRows > 0 ? 2 : 1
    case .tokens: tokenGroups?.count ?? 0
    case .adaLNZero, .adaLN, .additive: inContextTokens
    }
  }
  /// Tokens before the image's: those of the condition, then the sequence's.
  public var prefixTokens: Int { conditionTokens + sequenceLength }
  /// Tokens that the blocks run over, all of them those from ``inContextStart`` on.
  public var totalTokens: Int { prefixTokens + tokens }
  /// Tokens that block `index` runs over.
  public func tokens(ofBlock index: Int) -> Int { index < inContextStart ? tokens : totalTokens }
  /// Tokens that the position table has: the image's, and with `learned+rope` and `conditioning: tokens` all.
  public var positionTokens: Int { conditioning == .tokens && position.isLearned ? conditionTokens + tokens : tokens }
  /// Real numbers that the network is told for each sample: the time, and what else `tokens` embed.
  public var timeInputs: Int { conditioning == .tokens ? tokenGroups?.inputs ?? 0 : 1 }
  /// Whether guidance is among what the network is told: the scale ω, or an end of the interval in which it acts. Its `time`
  /// tokens are then told the length t − r of a step from t to r, not t (pixel MeanFlow).
  public var isToldGuidance: Bool { timeInputs > 1 }
  /// Whether an end of that interval is.
  public var isToldInterval: Bool { isToldGuidance && tokenGroups.map { $0.tMin > 0 || $0.tMax > 0 } ?? false }
  /// d = D / h.
  public var headSize: Int { hiddenSize / numHeads }
  /// Hidden size of a noise mask's gate, D/4.
  public var gateSize: Int { hiddenSize / 4 }
  /// Hidden size of the feed-forward part.
  public var mlpSize: Int {
    if let mlpHidden { return mlpHidden }
    let whole = Int(Double(hiddenSize) * mlpRatio)
    return mlp == .swiglu ? Int(Double(whole) * 2 / 3) : whole
  }
  /// Whether the label table ends in a null row, index `numClasses`.
  public var hasNullClass: Bool { numClasses > 0 && classDropoutProb > 0 }
  /// Whether training drops class and sequence, so that there is an unconditional prediction to guide away from.
  public var hasUnconditional: Bool { classDropoutProb > 0 && (numClasses > 0 || sequence != nil) }
  /// Time MLPs and label tables.
  var embedderCount: Int { embedders == .perBlock ? depth : conditioning == .tokens ? timeInputs : 1 }
  /// Rows of the label table.
  public var labelRows: Int { numClasses + (hasNullClass ? 1 : 0) }
  /// Elements of one input image, C·H·W.
  public var imageElements: Int { inChannels * inputHeight * inputWidth }
  /// Elements of one output, C'·H·W.
  public var outputElements: Int { outChannels * inputHeight * inputWidth }

  /// How inputs are cut into patches.
  public var inputGrid: PatchGrid {
    PatchGrid(channels: inChannels, height: inputHeight, width: inputWidth, patchSize: patchSize)
  }
  /// How outputs are put together.
  public var outputGrid: PatchGrid {
    PatchGrid(channels: outChannels, height: inputHeight, width: inputWidth, patchSize: patchSize)
  }

  /// Throws unless every size is usable: positive, P | H and W, h | D, 4 | D (4 | d with rope), with fewer than 2³⁶
  /// parameters and 2⁶² multiply-adds a pass.
  public func validate() throws(DiTError) {
    let most = 1 << 20
    for (key, value, limit) in [
      ("input_size", inputHeight, most), ("input_size", inputWidth, most), ("patch_size", patchSize, most),
      ("in_channels", inChannels, most), ("hidden_size", hiddenSize, most), ("depth", depth, 1024),
      ("num_heads", numHeads, most),
    ] where value < 1 || value > limit {
      throw DiTError(key: key, expected: "1 to \(limit)", found: "\(value)")
    }
    guard inputHeight % patchSize == 0, inputWidth % patchSize == 0 else {
      throw DiTError(
        key: "patch_size", problem: "\(patchSize) does not divide the input size \(inputHeight)×\(inputWidth)")
    }
    guard hiddenSize % numHeads == 0 else {
      throw DiTError(key: "num_heads", problem: "\(numHeads) does not divide hidden_size \(hiddenSize)")
    }
    guard hiddenSize % 4 == 0 else {
      throw DiTError(key: "hidden_size", expected: "a multiple of 4", found: "\(hiddenSize)")
    }
    guard mlpRatio > 0, mlpRatio <= 64, mlpHidden != nil || mlpSize > 0 else {
      throw DiTError(key: "mlp_ratio", expected: "more than 0 and at most 64", found: "\(mlpRatio)")
    }
    guard numClasses >= 0, numClasses <= 1 << 24 else {
      throw DiTError(key: "num_classes", expected: "0 to 16777216", found: "\(numClasses)")
    }
    guard classDropoutProb >= 0, classDropoutProb < 1 else {
      throw DiTError(
        key: "class_dropout_prob", expected: "at least 0 and less than 1", found: "\(classDropoutProb)")
    }
    if position.rotation != nil, headSize % 4 != 0 {
      throw DiTError(
        key: "position", problem: "\(position.rawValue) needs a head size that is a multiple of 4, not \(headSize)")
    }
    guard norm2Epsilon > 0, norm2Epsilon <= 1 else {
      throw DiTError(
        key: "norm2_eps", expected: "more than 0 and at most 1", found: "\(norm2Epsilon)")
    }
    try validateParts()
    try validateEmbedders()
    try validateSequence()
    try attention.validate()
    // The total is bounded in Double before anything multiplies these in Int.
    let d = Double(hiddenSize)
    let total =
      Double(depth) * d * (10 * d + 3 * Double(mlpSize)) + Double(embedderCount) * Double(labelRows) * d + Double(
        imageElements) * d
      + Double(sequenceLength + conditionTokens + 256) * d
      + Double(patchBottleneck ?? 0) * (d + Double(inputGrid.patchElements))
    guard total < 0x1p36 else {
      throw DiTError(key: "hidden_size", problem: "about \(total) parameters are more than 2^36")
    }
    let all = Double(tokens(ofBlock: depth - 1))
    let products = Double(depth) * all * d * (4 * d + 3 * Double(mlpSize) + 2 * all)
    guard products < 0x1p62 else {
      throw DiTError(key: "input_size", problem: "about \(products) multiply-adds a pass are more than 2^62")
    }
  }

  private func validateParts() throws(DiTError) {
    func require(_ holds: Bool, _ key: String, _ problem: @autoclosure () -> String) throws(DiTError) {
      if !holds { throw DiTError(key: key, problem: problem()) }
    }
    let most = 1 << 20
    if let mlpHidden {
      try require(1...most ~= mlpHidden, "mlp_hidden", "expected 1 to \(most), found \(mlpHidden)")
    }
    if let patchBottleneck {
      try require(1...most ~= patchBottleneck, "patch_bottleneck", "expected 1 to \(most), found \(patchBottleneck)")
    }
    try require(
      0...1 << 16 ~= inContextTokens, "in_context_tokens", "expected 0 to \(1 << 16), found \(inContextTokens)")
    if inContextTokens > 0 {
      try require(
        conditioning.isModulated, "in_context_tokens",
        "needs conditioning adaln_zero or adaln, not \(conditioning.rawValue)")
      try require(numClasses > 0, "in_context_tokens", "needs classes, as the tokens are the class's")
      try require(embedders == .shared, "in_context_tokens", "needs embedders shared")
    }
    let blocks = inContextTokens > 0 ? 0..<depth : 0..<1
    try require(
      blocks ~= inContextStart, "in_context_start",
      "expected \(blocks.count == 1 ? "0" : "0 to \(depth - 1)"), found \(inContextStart)")
    try require(
      inContextStart == 0 || sequence == nil, "in_context_start", "expected 0 beside text or context_image")
    if conditioning == .tokens {
      try validateGroups()
    } else {
      try require(tokenGroups == nil, "token_groups", "needs conditioning tokens, not \(conditioning.rawValue)")
    }
    try require(
      residualGates == .adaLN || conditioning != .adaLNZero, "residual_gates",
      "vector needs another conditioning than adaln_zero, whose gates come from the condition")
    try require(
      bias.patchBottleneck || patchBottleneck != nil, "bias.patch_bottleneck", "false needs a patch_bottleneck")
  }

  private func validateGroups() throws(DiTError) {
    guard let groups = tokenGroups else {
      throw DiTError(key: "token_groups", problem: "conditioning tokens needs them")
    }
    for (key, count) in groups.members where !(0...1 << 16 ~= count) {
      throw DiTError(key: "token_groups.\(key)", expected: "0 to \(1 << 16)", found: "\(count)")
    }
    guard groups.time > 0 else {
      throw DiTError(key: "token_groups.time", expected: "at least 1", found: "0")
    }
    guard (groups.classes > 0) == (numClasses > 0) else {
      throw DiTError(
        key: "token_groups.class",
        problem: numClasses > 0
          ? "expected at least 1, as there are classes, found 0"
          : "expected 0, as there are no classes, found \(groups.classes)")
    }
    guard !attention.hasGate else {
      throw DiTError(key: "attention.mask", problem: "expected none with conditioning tokens")
    }
  }

  /// A condition that is not a block's own cannot come from a block's own embedder; nor can a gate's.
  private func validateEmbedders() throws(DiTError) {
    guard embedders == .perBlock else { return }
    guard conditioning.isModulated else {
      throw DiTError(
        key: "embedders", problem: "per_block needs conditioning adaln_zero or adaln, not \(conditioning.rawValue)")
    }
    guard !attention.hasGate else {
      throw DiTError(key: "embedders", problem: "per_block needs attention.mask none")
    }
  }

  private func validateSequence() throws(DiTError) {
    switch sequence {
    case nil: break
    case .text(let length):
      guard 1...1 << 16 ~= length else {
        throw DiTError(key: "text.length", expected: "1 to \(1 << 16)", found: "\(length)")
      }
    case .image(let height, let width):
      guard 1...1 << 20 ~= height, 1...1 << 20 ~= width, height % patchSize == 0, width % patchSize == 0 else {
        throw DiTError(
          key: "context_image.input_size",
          expected: "positive multiples of patch_size \(patchSize)", found: "\(height)×\(width)")
      }
    }
  }

  /// Multiply-adds of one forward pass of one image, matrix products only, as papers count them ("Gflops"). Attention
  /// counts every pair of tokens, inside a window or not.
  public var multiplyAdds: Int {
    let (d, l) = (hiddenSize, tokens)
    let feedForward = mlp.part.sums(of: self) + mlpSize
    let blocks = (0..<depth).reduce(0) { sum, index in
      let all = tokens(ofBlock: index)
      return sum + all * d * (4 * d + feedForward) + 2 * all * all * d
    }
    let modulation = conditioning.isModulated ? d * (Modulation.parts(self) * depth + 2) * d : 0
    let patch = inputGrid.patchElements
    let ends =
      l * (patchBottleneck.map { $0 * (patch + d) } ?? patch * d) + l * d * outputGrid.patchElements
      + embedderCount * (timeFrequencyCount * d + d * d)
    let gates = attention.hasGate ? depth * gateSize * (d + numHeads) : 0
    let sequence = if case .image = sequence { sequenceLength * d * inputGrid.patchElements } else { 0 }
    return blocks + modulation + ends + sequence + gates
  }
}
