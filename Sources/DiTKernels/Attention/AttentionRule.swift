import CDiTKernels
import DiTTensor

/// Which tokens attend to which, and how what is outside a window takes part.
///
/// A sample's tokens are `prefix` ones (text, conditions), then the image's in row-major order. Image tokens i and j are
/// inside each other's window when |i − j| < k, the sample's width; a prefix token is inside every window, in both
/// directions. A logit inside is the head's scale times q·k.
public struct AttentionRule: Equatable, Sendable {
  /// What the tokens outside a window do.
  public enum Mask: Equatable, Sendable {
    /// There are no windows.
    case none
    /// Their logit is 0: they take part with weight e⁰.
    case soft
    /// They take no part.
    case hard

    var code: Int32 {
      switch self {
      case .none: Int32(DiTMaskNone.rawValue)
      case .soft: Int32(DiTMaskSoft.rawValue)
      case .hard: Int32(DiTMaskHard.rawValue)
      }
    }
  }

  public var mask: Mask
  /// Tokens before the image's.
  public var prefix: Int
  /// Columns of the image's token grid, when a distance is the larger of rows' and columns'; nil: the distance in
  /// row-major order.
  public var columns: Int?

  /// Plain attention over `prefix` tokens and an image's.
  public init(mask: Mask = .none, prefix: Int = 0, columns: Int? = nil) {
    self.mask = mask
    self.prefix = prefix
    self.columns = columns
  }
}

/// The extents of multi-head attention: qkv is (samples · tokens, 3 · heads · headSize).
public struct AttentionExtents: Equatable, Sendable {
  public var samples, tokens, heads, headSize: Int

  public init(samples: Int, tokens: Int, heads: Int, headSize: Int) {
    self.samples = samples
    self.tokens = tokens
    self.heads = heads
    self.headSize = headSize
  }

  /// Elements of q, of k, of v and of the output.
  var elements: Int { samples * tokens * heads * headSize }
  var width: Int { heads * headSize }

  /// Traps unless qkv is (samples · tokens, 3 · heads · headSize), without gaps.
  func check(qkv: Matrix) {
    precondition(
      qkv.rows == samples * tokens && qkv.columns == 3 * width && qkv.stride == 3 * width,
      "qkv: (\(qkv.rows), \(qkv.columns)) for \(self)")
  }

  /// Traps unless an output, or its gradient, is (samples · tokens, heads · headSize) of qkv's format, without gaps.
  func check(output: Matrix, like qkv: Matrix) {
    precondition(
      output.rows == qkv.rows && output.columns == width && output.stride == width && output.format == qkv.format,
      "attention output: (\(output.rows), \(output.columns)) \(output.format) for \(self)")
  }
}
