import DiTModel
import DiTTensor

/// What conditions N images beside their classes: a sequence for each.
///
/// A model takes the kind that its configuration names (`text`, `context_image`), or a program's own embeddings in its
/// place. An empty sequence is the null that guidance turns away from.
public enum ConditioningSequence: Equatable, Sendable {
  /// One text per image: at most `text.length` bytes of UTF-8; "" is empty.
  case texts([String])
  /// Another image for each, (N, C, h, w), h and w those of `context_image`.
  case images(Tensor)
  /// A program's own token embeddings for each image, (tokens, D); the model adds its positions to them.
  case embeddings([Tensor])

  /// N.
  public var count: Int {
    switch self {
    case .texts(let texts): texts.count
    case .images(let images): images.shape.first ?? 0
    case .embeddings(let embeddings): embeddings.count
    }
  }

  /// Those of the images at these places, in this order.
  package func picking(_ places: [Int]) -> ConditioningSequence {
    switch self {
    case .texts(let texts): .texts(places.map { texts[$0] })
    case .images(let images): .images(images.picking(places))
    case .embeddings(let embeddings): .embeddings(places.map { embeddings[$0] })
    }
  }
}

extension DiTConfiguration {
  /// The sequences as the network takes them; empty ones where none are given; nil for a model that takes none.
  ///
  /// - Throws: `DiTError` for a kind that the model does not take, another number, a text that is too long, and other
  ///   shapes.
  func input(_ sequence: ConditioningSequence?, samples: Int) throws(DiTError) -> SequenceInput? {
    guard let source = self.sequence else {
      guard sequence == nil else {
        throw DiTError(
          argument: "sequence", expected: "none, as the model has neither text nor context_image", found: "one")
      }
      return nil
    }
    guard let sequence else { return SequenceInput(self, samples: samples) }
    try checkCount(sequence.count, samples, "sequence")
    switch (source, sequence) {
    case (.text(let length), .texts(let texts)): return try textInput(texts, length)
    case (.image(let height, let width), .images(let images)):
      guard images.shape == [samples, inChannels, height, width] else {
        throw DiTError(
          argument: "context", expected: "shape \([samples, inChannels, height, width])", found: "\(images.shape)")
      }
      try images.checkFinite("context")
      return imageInput(images)
    case (_, .embeddings(let embeddings)): return try embeddingInput(embeddings)
    case (.text, .images): throw DiTError(argument: "sequence", expected: "texts", found: "images")
    case (.image, .texts): throw DiTError(argument: "sequence", expected: "images", found: "texts")
    }
  }

  private func textInput(_ texts: [String], _ length: Int) throws(DiTError) -> SequenceInput {
    var input = SequenceInput(self, samples: texts.count)
    for (n, text) in texts.enumerated() {
      let bytes = Array(text.utf8)
      guard bytes.count <= length else {
        throw DiTError(
          argument: "prompt", expected: "at most \(length) bytes, the model's text.length",
          found: "\(bytes.count) bytes")
      }
      input.set(n, text: bytes.span)
    }
    return input
  }

  private func imageInput(_ images: Tensor) -> SequenceInput {
    var input = SequenceInput(self, samples: images.shape[0])
    let size = images.count / images.shape[0]
    for n in 0..<images.shape[0] {
      input.set(n, image: images.elements.span.extracting(n * size..<(n + 1) * size))
    }
    return input
  }

  private func embeddingInput(_ embeddings: [Tensor]) throws(DiTError) -> SequenceInput {
    var input = SequenceInput(self, samples: embeddings.count, content: .embeddings)
    for (n, tokens) in embeddings.enumerated() {
      let shape = tokens.shape
      guard shape.count == 2, shape[1] == hiddenSize, shape[0] <= sequenceLength else {
        throw DiTError(
          argument: "embeddings", expected: "shape [tokens, \(hiddenSize)] of at most \(sequenceLength) tokens",
          found: "\(shape)"
        )
      }
      if let bad = tokens.elements.span.firstNotFinite {
        throw DiTError(
          argument: "embeddings", expected: "finite numbers", found: "\(tokens.elements[bad]) in those of image \(n)")
      }
      input.set(n, embeddings: tokens.elements.span)
    }
    return input
  }
}
