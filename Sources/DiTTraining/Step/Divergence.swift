import DiTTensor

/// Why a run cannot go on: the loss, the gradient's norm or a weight is not finite.
public struct Divergence: Equatable, Sendable, CustomStringConvertible {
  /// The step that failed, 1 for the first.
  public let step: Int
  /// Nil, like the norm, when it is the weights after the step that are not finite.
  public let loss: Double?
  public let gradientNorm: Double?

  /// One line.
  public var description: String {
    guard let loss, let gradientNorm else {
      return "training diverged: after step \(step) a weight is not finite"
    }
    return "training diverged at step \(step): loss \(loss), gradient norm \(gradientNorm)"
  }
}

extension DiTError {
  init(_ divergence: Divergence) {
    self.init(.numbers, Subject(), problem: divergence.description, cause: divergence)
  }

  /// How training diverged; nil where the error is about something else.
  package var divergence: Divergence? { cause() }
}
