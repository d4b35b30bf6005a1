import DiTModel
import TestSupport

/// What the blocks of the reference run over, and images out of it.
extension ReferenceNetwork {
  /// The real tokens of one sequence, positions added.
  func rows(_ sequence: Sequence) -> [Double] {
    let d = c.hiddenSize
    let rows: [Double]
    switch sequence {
    case .text(let bytes):
      let table = tensor("text_embedder.table")
      rows = bytes.flatMap { table[Int($0) * d..<(Int($0) + 1) * d] }
    case .image(let image):
      guard case .image(let height, let width) = c.sequence, let image else { return [] }
      rows = linear("image_embedder.proj", cut(image.doubles, 1, height: height, width: width), outputs: d)
    case .embeddings(let values): rows = values.doubles
    }
    let source = if case .text = c.sequence { "text_embedder" } else { "image_embedder" }
    return zip(rows, tensor("\(source).pos_embed")).map(+)
  }

  /// (N, L, D): the image's patches with their positions.
  func patches(_ images: [Double], _ condition: Condition) -> [Double] {
    let (d, l, samples) = (c.hiddenSize, c.tokens, images.count / c.imageElements)
    var patches = cut(images, samples, height: c.inputHeight, width: c.inputWidth)
    if let width = c.patchBottleneck {
      patches = linear("x_embedder.proj1", patches, outputs: width, hasBias: c.bias.patchBottleneck)
      patches = linear("x_embedder.proj2", patches, outputs: d)
    } else {
      patches = linear("x_embedder.proj", patches, outputs: d)
    }
    if c.position != .rope {
      let positions = tensor("pos_embed").suffix(l * d)
      for i in patches.indices { patches[i] += positions[positions.startIndex + i % (l * d)] }
    }
    if c.conditioning == .additive {
      for i in patches.indices { patches[i] += condition.sum[i / (l * d) * d + i % d] }
    }
    return patches
  }

  /// (N, T, D): the tokens of the condition, the sequence with zeros for padding, the image's patches.
  func joined(_ patches: [Double], _ condition: Condition, _ prefixes: [[Double]]?) -> [Double] {
    let (d, l) = (c.hiddenSize, c.tokens)
    return (0..<patches.count / (l * d)).flatMap { n in
      let row = n * d..<(n + 1) * d
      var x: [Double] = []
      if c.conditioning == .inContext {
        x += condition.time[row]
        if !condition.label.isEmpty { x += condition.label[row] }
      }
      for group in condition.groups {
        let own = tensor("\(group.name)_tokens")
        x += own.indices.map { own[$0] + group.embedding[n * d + $0 % d] }
      }
      if c.conditioning == .tokens, c.position == .learned || c.position == .learnedRope {
        let positions = tensor("pos_embed")
        for i in x.indices { x[i] += positions[i] }
      }
      if c.inContextTokens > 0 {
        let own = tensor("in_context_posemb")
        x += own.indices.map { own[$0] + condition.label[n * d + $0 % d] }
      }
      if let prefixes {
        x += prefixes[n]
        x += [Double](repeating: 0, count: c.sequenceLength * d - prefixes[n].count)
      }
      return x + patches[n * l * d..<(n + 1) * l * d]
    }
  }

  /// Row-major patches; inside each channel, row, column.
  private func cut(_ images: [Double], _ samples: Int, height: Int, width: Int) -> [Double] {
    let (p, columns) = (c.patchSize, width / c.patchSize)
    var rows: [Double] = []
    for n in 0..<samples {
      for token in 0..<height / p * columns {
        for channel in 0..<c.inChannels {
          for i in 0..<p * p {
            let (row, column) = (token / columns * p + i / p, token % columns * p + i % p)
            rows.append(images[((n * c.inChannels + channel) * height + row) * width + column])
          }
        }
      }
    }
    return rows
  }

  /// The inverse of cutting, but that a token's elements are in the order row, column, channel.
  func put(_ rows: [Double], _ samples: Int) -> [Double] {
    let (p, columns) = (c.patchSize, c.inputWidth / c.patchSize)
    var images = [Double](repeating: .nan, count: rows.count)
    var at = 0
    for n in 0..<samples {
      for token in 0..<c.tokens {
        for i in 0..<p * p {
          for channel in 0..<c.outChannels {
            let (row, column) = (token / columns * p + i / p, token % columns * p + i % p)
            images[((n * c.outChannels + channel) * c.inputHeight + row) * c.inputWidth + column] = rows[at]
            at += 1
          }
        }
      }
    }
    return images
  }
}
