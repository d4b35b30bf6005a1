import DiTKernels
import DiTModel
import DiTTensor
import TestSupport

/// The published network in Double, as the paper and its state dict read: the oracle for every case that has no fixture.
struct ReferenceNetwork {
  let c: DiTConfiguration
  /// Every tensor by name.
  var tensors: [String: [Double]]

  init(_ batch: Case) {
    c = batch.configuration
    tensors = Dictionary(
      uniqueKeysWithValues: zip(batch.weights.table.parameters, batch.weights.slices).map {
        ($0.name, $1.array.doubles)
      })
  }

  private func tensor(_ name: String) -> [Double] { tensors[name] ?? [] }

  private func linear(_ name: String, _ x: [Double], outputs: Int) -> [Double] {
    let weight = tensor(name + ".weight")
    let inputs = weight.count / outputs
    return Reference.linear(
      x, weight, tensor(name + ".bias"), rows: x.count / inputs, inputs: inputs, outputs: outputs)
  }

  /// c, one row a sample. The features are the network's own Float ones, unless the fixture's are given.
  private func conditioning(_ times: [Float], _ labels: [Int], features: [Double]?) -> [Double] {
    let d = c.hiddenSize
    let own = Slice(zeros: times.count * timeFrequencyCount)
    timeFrequencies(output: own.mutableSpan, times: times.span)
    let hidden = linear("t_embedder.mlp.0", features ?? own.array.doubles, outputs: d).map(Reference.silu)
    var rows = linear("t_embedder.mlp.2", hidden, outputs: d)
    let table = tensor("y_embedder.embedding_table.weight")
    for (n, label) in labels.enumerated() {
      for i in 0..<d { rows[n * d + i] += table[label * d + i] }
    }
    return rows
  }

  /// Chunk `part` of rows of `parts` chunks.
  private func chunk(_ rows: [Double], _ part: Int, of parts: Int) -> [Double] {
    let d = c.hiddenSize
    let starts = stride(from: part * d, to: rows.count, by: parts * d)
    return starts.flatMap { rows[$0..<$0 + d] }
  }

  private func modulate(_ x: [Double], _ shift: [Double], _ scale: [Double]) -> [Double] {
    let samples = shift.count / c.hiddenSize
    return Reference.modulate(
      x, shift: shift, scale: scale, epsilon: 1e-6, samples: samples, tokens: c.tokens, width: c.hiddenSize)
  }

  /// (N, C', H, W)
  func output(_ images: [Double], _ times: [Float], _ labels: [Int], features: [Double]? = nil) -> [Double] {
    let (d, samples) = (c.hiddenSize, times.count)
    let heads = Reference.Heads(samples: samples, tokens: c.tokens, heads: c.numHeads, size: c.headSize)
    let condition = conditioning(times, labels, features: features).map(Reference.silu)
    var x = linear("x_embedder.proj", cut(images, samples), outputs: d)
    let positions = tensor("pos_embed")
    for i in x.indices { x[i] += positions[i % positions.count] }
    for block in 0..<c.depth {
      let name = "blocks.\(block)"
      let rows = linear("\(name).adaLN_modulation.1", condition, outputs: 6 * d)
      let m = (0..<6).map { chunk(rows, $0, of: 6) }
      var h = linear("\(name).attn.qkv", modulate(x, m[0], m[1]), outputs: 3 * d)
      h = linear("\(name).attn.proj", Reference.attention(h, heads).out, outputs: d)
      x = Reference.gated(x, h, gate: m[2], tokens: c.tokens, width: d)
      h = linear("\(name).mlp.fc1", modulate(x, m[3], m[4]), outputs: c.mlpSize).map(Reference.gelu)
      x = Reference.gated(x, linear("\(name).mlp.fc2", h, outputs: d), gate: m[5], tokens: c.tokens, width: d)
    }
    let rows = linear("final_layer.adaLN_modulation.1", condition, outputs: 2 * d)
    let h = modulate(x, chunk(rows, 0, of: 2), chunk(rows, 1, of: 2))
    return put(
      linear("final_layer.linear", h, outputs: c.patchSize * c.patchSize * c.outChannels), samples)
  }

  /// Row-major patches; inside each channel, row, column.
  private func cut(_ images: [Double], _ samples: Int) -> [Double] {
    let (p, columns) = (c.patchSize, c.inputWidth / c.patchSize)
    var rows: [Double] = []
    for n in 0..<samples {
      for token in 0..<c.tokens {
        for channel in 0..<c.inChannels {
          for i in 0..<p * p {
            let (row, column) = (token / columns * p + i / p, token % columns * p + i % p)
            rows.append(images[((n * c.inChannels + channel) * c.inputHeight + row) * c.inputWidth + column])
          }
        }
      }
    }
    return rows
  }

  /// The inverse of cutting, but that a token's elements are in the order row, column, channel.
  private func put(_ rows: [Double], _ samples: Int) -> [Double] {
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
