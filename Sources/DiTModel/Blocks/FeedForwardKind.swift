import Synchronization

/// The feed-forward part of a block, by the word of config.json.
public struct FeedForwardKind: RawRepresentable, Hashable, CaseIterable, Sendable {
  public let rawValue: String

  /// fc2(gelu_tanh(fc1(x))).
  public static let gelu = FeedForwardKind(word: "gelu")
  /// w3(silu(u) ⊙ g), [u ‖ g] = w12(x) (Shazeer 2020).
  public static let swiglu = FeedForwardKind(word: "swiglu")

  /// The parts by their words; those that are added stand after ours.
  private static let parts = Mutex<[(word: String, part: any FeedForwardPart.Type)]>([
    ("gelu", FusedFeedForward.self), ("swiglu", FusedFeedForward.self),
  ])

  private init(word: String) { rawValue = word }

  /// Nil for a word that no part has.
  public init?(rawValue: String) {
    guard Self.allCases.contains(where: { $0.rawValue == rawValue }) else { return nil }
    self.rawValue = rawValue
  }

  public static var allCases: [FeedForwardKind] {
    parts.withLock { $0.map { FeedForwardKind(word: $0.word) } }
  }

  /// The part of this word.
  var part: any FeedForwardPart.Type {
    let found = Self.parts.withLock { parts in parts.first { $0.word == rawValue }?.part }
    guard let found else { preconditionFailure("no feed-forward part is called \(rawValue)") }
    return found
  }

  /// Adds a part under a word of its own, and gives its kind.
  package static func add(_ part: any FeedForwardPart.Type, as word: String) -> FeedForwardKind {
    parts.withLock { parts in
      precondition(!parts.contains { $0.word == word }, "a second feed-forward part called \(word)")
      parts.append((word, part))
    }
    return FeedForwardKind(word: word)
  }
}
