// The choices of a network beside its sizes. Raw values are config.json's words.

/// How image tokens know where they are.
public enum PositionEncoding: String, CaseIterable, Sendable {
  /// The fixed 2-D sine-cosine table, added to the tokens. Any input size.
  case sincos
  /// A trained table, added to the tokens; begins as `sincos`, and is resampled for another input size.
  case learned
  /// 2-D axial rotary positions on q and k of the image's tokens (Su et al. 2021); no table. Any input size; the head size
  /// must be a multiple of 4.
  case rope
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
