import DiTKernels

// The choices of a network beside its sizes. Raw values are config.json's words.

/// How image tokens know where they are.
public enum PositionEncoding: String, CaseIterable, Sendable {
  /// The fixed 2-D sine-cosine table, added to the tokens. Any input size.
  case sincos
  /// A trained table, added to the tokens; begins as `sincos`, and is resampled for another input size.
  case learned
  /// 2-D axial rotary positions on q and k of the image's tokens (Su et al. 2021); no table. Any input size; the head size
  /// must be a multiple of 4. The first half of a head turns with the column, the second with the row.
  case rope
  /// `sincos`, and rotary positions whose first half turns with the row, the second with the column.
  case sincosRope = "sincos+rope"
  /// `learned`, with the same rotary positions.
  case learnedRope = "learned+rope"

  /// Whether a table is added to the tokens; whether it is trained.
  public var hasTable: Bool { self != .rope }
  public var isLearned: Bool { self == .learned || self == .learnedRope }
  /// What q and k turn with first; nil without rotary positions.
  public var rotation: RotaryOrder? {
    switch self {
    case .sincos, .learned: nil
    case .rope: .columnFirst
    case .sincosRope, .learnedRope: .rowFirst
    }
  }
}

/// What a row of the residual stream is normalized by.
public enum Normalization: String, CaseIterable, Sendable {
  /// LayerNorm (Ba et al. 2016); no weight where shift and scale come from the condition.
  case layer
  /// RMSNorm (Zhang & Sennrich 2019) with a weight.
  case rms
}

/// What multiplies each half of a block before it joins the residual stream.
public enum ResidualGates: String, CaseIterable, Sendable {
  /// What the conditioning says: a gate from the condition with `adaln_zero`, else none.
  case adaLN = "adaln"
  /// A vector of the block's own, the same for all samples (`attn_scale`, `mlp_scale`).
  case vector
}

/// Which linear layers have a bias; those that are not named have one.
public struct Biases: Equatable, Sendable {
  /// Of q, k and v; of attention's projection; of both layers of the feed-forward part.
  public var qkv = true, proj = true, mlp = true
  /// Of the bottleneck patch embedding's first map.
  public var patchBottleneck = true

  public init() {}
}

/// With `conditioning: tokens`: how many tokens stand for each thing that the network is told, in the order in which they
/// come before the image's. Each is a vector of its own plus the group's embedding.
public struct TokenGroups: Equatable, Sendable {
  /// The class.
  public var classes: Int
  /// 1 − 1/ω of the guidance scale ω.
  public var omega: Int
  /// Where guidance begins and ends.
  public var tMin, tMax: Int
  /// The time, or what stands for it.
  public var time: Int

  public init(classes: Int = 0, omega: Int = 0, tMin: Int = 0, tMax: Int = 0, time: Int = 0) {
    (self.classes, self.omega, self.tMin, self.tMax, self.time) = (classes, omega, tMin, tMax, time)
  }

  public var count: Int { classes + omega + tMin + tMax + time }
  /// With the keys of config.json, in order.
  public var members: [(key: String, count: Int)] {
    [("class", classes), ("omega", omega), ("t_min", tMin), ("t_max", tMax), ("time", time)]
  }
  /// Real numbers that the network embeds for each sample, in this order: omega, t_min, t_max, time.
  public var inputs: Int { [omega, tMin, tMax, time].count { $0 > 0 } }
}

/// What the time MLP is given.
public enum TimeFrequencies: String, CaseIterable, Sendable {
  /// [cos ‖ sin] of t·10000^(−k/128), in Float as the published code has it.
  case dit
  /// [cos ‖ sin] of t·10000^(−k/127), in Float as diffusers has it (`downscale_freq_shift=1`).
  case diffusers
  /// Pairs [sin, cos] of t·10^(4k/256), angles in Double: the source's formula read as it stands.
  case literal
}

/// Whose time MLP and label table a block's condition comes from.
public enum Embedders: String, CaseIterable, Sendable {
  /// One of each for the whole network (the published DiT).
  case shared
  /// One of each in every block, as diffusers stores them; the final layer uses the first block's.
  case perBlock = "per_block"
}

/// How the condition c = E_time(t) + E_class(y) enters.
public enum Conditioning: String, CaseIterable, Sendable {
  /// Shift, scale and gate of every half block from c (the published DiT).
  case adaLNZero = "adaln_zero"
  /// Shift and scale from c, without gates.
  case adaLN = "adaln"
  /// c is added to every image token beside its position; LayerNorms have weight and bias of their own.
  case additive
  /// E_time and E_class are two tokens before all others; LayerNorms have weight and bias of their own.
  case inContext = "in_context"
  /// ``TokenGroups`` before all others, and nothing else; norms have a weight of their own.
  case tokens

  /// Whether shift and scale come from c.
  var isModulated: Bool { self == .adaLNZero || self == .adaLN }
}

/// A token sequence that conditions the model beside time and class: its tokens, each with a learned position, stand
/// before the image's and attend jointly with them.
public enum SequenceSource: Equatable, Sendable {
  /// Up to `length` bytes of UTF-8, each a row of `text_embedder.table`.
  case text(length: Int)
  /// The patches of another image of `height` × `width`, with the channels and the patch size of the input, through
  /// `image_embedder.proj`.
  case image(height: Int, width: Int)
}
