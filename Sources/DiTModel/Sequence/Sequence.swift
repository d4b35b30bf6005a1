import DiTKernels
import DiTTensor

// The token sequence that conditions a network beside time and class.
//
// Rows of a sample in the blocks: in-context tokens, the sequence's `length` rows of which the first few are real and
// the rest padding, then the image's tokens. Attention does not see padding.

/// What the sequences of a batch are, before they are embedded. Made once for a batch size; the setters allocate nothing.
public struct SequenceInput: Sendable {
  /// What a sequence consists of.
  public enum Content: Sendable {
    /// Bytes, for a text source.
    case text
    /// Another image, for an image source.
    case image
    /// A program's own token embeddings, for either: positions are added to them.
    case embeddings
  }

  let configuration: DiTConfiguration
  public let content: Content
  /// N.
  public let samples: Int
  /// Tokens of each sample before the image's that are no padding, in-context ones included.
  private(set) var prefixKeys: [Int]
  /// (N, length).
  private(set) var bytes: [UInt8]
  /// (N, C, h, w) of images, (N, length, D) of embeddings.
  private(set) var values: [Float]

  /// Empty sequences.
  ///
  /// - Precondition: the configuration has a sequence of that content.
  public init(_ configuration: DiTConfiguration, samples: Int, content: Content? = nil) {
    let c = configuration
    self.configuration = c
    self.samples = samples
    prefixKeys = [Int](repeating: c.conditionTokens, count: samples)
    switch (c.sequence, content) {
    case (nil, _): preconditionFailure("a sequence for a network that takes none")
    case (_, .embeddings?):
      self.content = .embeddings
      bytes = []
      values = [Float](repeating: 0, count: samples * c.sequenceLength * c.hiddenSize)
    case (.text?, nil), (.text?, .text?):
      self.content = .text
      bytes = [UInt8](repeating: 0, count: samples * c.sequenceLength)
      values = []
    case (.image?, nil), (.image?, .image?):
      self.content = .image
      bytes = []
      values = [Float](repeating: 0, count: samples * c.sequenceGrid.elements)
    default: preconditionFailure("a sequence of another source")
    }
  }

  /// Real tokens of sample n.
  public func count(_ n: Int) -> Int { prefixKeys[n] - configuration.conditionTokens }

  /// The sequences of some samples alone.
  public func samples(_ range: Range<Int>) -> SequenceInput {
    var some = SequenceInput(configuration, samples: range.count, content: content)
    let (width, size) = (bytes.count / samples, values.count / samples)
    some.prefixKeys = Array(prefixKeys[range])
    some.bytes = Array(bytes[range.lowerBound * width..<range.upperBound * width])
    some.values = Array(values[range.lowerBound * size..<range.upperBound * size])
    return some
  }

  /// Makes sample n's sequence empty: the null that guidance turns away from.
  public mutating func clear(_ n: Int) { prefixKeys[n] = configuration.conditionTokens }

  /// The text of sample n.
  ///
  /// - Precondition: it has at most `length` bytes.
  public mutating func set(_ n: Int, text: Span<UInt8>) {
    let length = configuration.sequenceLength
    precondition(content == .text && text.count <= length, "\(text.count) bytes of text for \(length)")
    for i in 0..<text.count { bytes[n * length + i] = text[i] }
    prefixKeys[n] = configuration.conditionTokens + text.count
  }

  /// The image of sample n, (C, h, w).
  public mutating func set(_ n: Int, image: Span<Float>) {
    let size = configuration.sequenceGrid.elements
    precondition(content == .image && image.count == size, "\(image.count) elements for an image of \(size)")
    for i in 0..<size { values[n * size + i] = image[i] }
    prefixKeys[n] = configuration.conditionTokens + configuration.sequenceLength
  }

  /// A program's own embeddings of sample n, (tokens, D).
  public mutating func set(_ n: Int, embeddings: Span<Float>) {
    let (length, d) = (configuration.sequenceLength, configuration.hiddenSize)
    precondition(
      content == .embeddings && embeddings.count % d == 0 && embeddings.count <= length * d,
      "\(embeddings.count) elements for at most \(length) tokens of \(d)")
    for i in embeddings.indices { values[n * length * d + i] = embeddings[i] }
    prefixKeys[n] = configuration.conditionTokens + embeddings.count / d
  }
}

/// Sequences of a batch as the blocks take them. They do not depend on the time: when sampling they are made once.
public struct SequenceTokens {
  /// Tokens per sample, padding included.
  public let length: Int
  /// (N, length, D), positions added; zeros where there is padding.
  let rows: MutableFloatSlice
  /// Tokens of each sample before the image's that are no padding, in-context ones included.
  private(set) var prefixKeys: [Int]
  private let width: Int

  /// N.
  public var samples: Int { prefixKeys.count }

  /// Empty sequences.
  public init(_ configuration: DiTConfiguration, samples: Int) {
    let c = configuration
    self.init(
      c, rows: MutableFloatSlice(zeros: samples * c.sequenceLength * c.hiddenSize),
      prefixKeys: [Int](repeating: c.conditionTokens, count: samples))
  }

  init(_ c: DiTConfiguration, rows: MutableFloatSlice, prefixKeys: [Int]) {
    length = c.sequenceLength
    width = c.hiddenSize
    self.rows = rows
    self.prefixKeys = prefixKeys
  }

  /// Sample n's rows.
  func rows(_ n: Int) -> MutableFloatSlice { rows[n * length * width..<(n + 1) * length * width] }

  /// Makes sample n what sample `source` of `other` is.
  public mutating func copySample(_ n: Int, from other: SequenceTokens, _ source: Int) {
    precondition(length == other.length && width == other.width, "sequences of two networks")
    rows(n).copy(from: other.rows(source).span)
    prefixKeys[n] = other.prefixKeys[source]
  }
}

extension DiTConfiguration {
  /// How a context image is cut into patches.
  var sequenceGrid: PatchGrid {
    guard case .image(let height, let width) = sequence else { preconditionFailure("no context image") }
    return PatchGrid(channels: inChannels, height: height, width: width, patchSize: patchSize)
  }
}

extension PatchGrid {
  /// Elements of an image.
  var elements: Int { channels * height * width }
}

// MARK: - Embedding

extension DiTNetwork {
  /// The tokens of a batch of sequences. A sample's have the same bits whatever the others are.
  public func embed(_ input: SequenceInput) -> SequenceTokens {
    let c = configuration
    let patches = MutableFloatSlice(zeros: input.content == .image ? input.samples * c.sequenceGrid.elements : 0)
    let tokens = SequenceTokens(c, samples: input.samples)
    return embed(input, into: tokens.rows, patches: patches)
  }

  /// The same in the caller's memory: `rows` (N, length, D), and for images `patches` (N, length, P² C), which the backward
  /// pass reads.
  func embed(_ input: SequenceInput, into rows: MutableFloatSlice, patches: MutableFloatSlice) -> SequenceTokens {
    let (c, table) = (configuration, weights.table)
    precondition(input.configuration == c, "a sequence for another network")
    guard let sequence = table.sequence else { preconditionFailure("a sequence for a network that takes none") }
    let rows = rows[0..<input.samples * c.sequenceLength * c.hiddenSize]
    let tokens = SequenceTokens(c, rows: rows, prefixKeys: input.prefixKeys)
    if input.content == .image {
      patchify(
        patches: patches.mutableSpan, images: input.values.span, samples: input.samples, grid: c.sequenceGrid,
        order: .channelFirst)
    }
    for n in 0..<input.samples {
      let (all, real) = (tokens.rows(n), input.count(n) * c.hiddenSize)
      switch (input.content, sequence.embedding) {
      case (.text, .table(let index)):
        lookUp(all, bytes: input.bytes, from: n * c.sequenceLength, count: input.count(n), weights.slices[index])
      case (.image, .proj(let proj)):
        let (size, length) = (c.sequenceGrid.elements, c.sequenceLength)
        apply(
          proj, .blas(parts: 1),
          to: Matrix(patches[n * size..<(n + 1) * size].reading, rows: length, columns: size / length),
          into: MutableMatrix(all, rows: length, columns: c.hiddenSize))
      case (.embeddings, _): all.copy(from: input.values.span.extracting(n * all.count..<(n + 1) * all.count))
      default: preconditionFailure("a sequence of another source")
      }
      let positions = weights.slices[sequence.positions]
      context.add(positions[0..<real], to: all)
      all[real..<all.count].fill(0)
    }
    return tokens
  }

  private func lookUp(_ rows: MutableFloatSlice, bytes: [UInt8], from start: Int, count: Int, _ table: FloatSlice) {
    let d = configuration.hiddenSize
    for i in 0..<count {
      let byte = Int(bytes[start + i])
      rows[i * d..<(i + 1) * d].copy(from: table[byte * d..<(byte + 1) * d].span)
    }
  }
}

// MARK: - Rows of the blocks

extension DiTNetwork {
  /// (samples, L, D) at the start of `x` → the image rows of (samples, prefix + L, D), in place.
  func spreadImageTokens(_ x: MutableFloatSlice, samples: Int) {
    moveImageTokens(x, samples: samples, isSpreading: true)
  }

  /// The image rows of (samples, prefix + L, D) → (samples, L, D) at the start of `x`, in place.
  func gatherImageTokens(_ x: MutableFloatSlice, samples: Int) {
    moveImageTokens(x, samples: samples, isSpreading: false)
  }

  /// Row by row, from the end that is not yet overwritten.
  private func moveImageTokens(_ x: MutableFloatSlice, samples: Int, isSpreading: Bool) {
    let c = configuration
    let (d, l) = (c.hiddenSize, c.tokens)
    guard c.prefixTokens > 0 else { return }
    for index in 0..<samples * l {
      let row = isSpreading ? samples * l - 1 - index : index
      let place = row / l * c.totalTokens + c.prefixTokens + row % l
      let (from, to) = isSpreading ? (row, place) : (place, row)
      x[to * d..<(to + 1) * d].copy(from: x[from * d..<(from + 1) * d].span)
    }
  }

  /// Traps where a network with a sequence gets none, or the other way round.
  func checkSequence(_ samples: Int?, of needed: Int) {
    guard let samples else {
      precondition(configuration.sequence == nil, "a network with a sequence needs one")
      return
    }
    precondition(configuration.sequence != nil, "a sequence for a network that takes none")
    precondition(samples >= needed, "sequences of \(samples) samples for \(needed)")
  }
}
