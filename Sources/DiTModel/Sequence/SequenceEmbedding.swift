import DiTKernels
import DiTTensor

/// What embeds a conditioning sequence: its tokens' table or patch embedding, and their positions.
struct SequenceEmbedding: Sendable {
  enum Embedding: Sendable {
    /// (256, D), a row a byte.
    case table(Int)
    /// A patch embedding.
    case proj(LinearLayer)
  }

  let embedding: Embedding
  /// (1, length, D).
  let positions: Int

  /// Nil without a sequence.
  init?(_ c: DiTConfiguration, _ b: inout ParameterBuilder) {
    let drawn = Parameter.Initialization.normal(deviation: 0.02)
    switch c.sequence {
    case nil: return nil
    case .text(let length):
      embedding = .table(b.add("text_embedder.table", [256, c.hiddenSize], drawn))
      positions = b.add("text_embedder.pos_embed", [1, length, c.hiddenSize], drawn)
    case .image:
      embedding = .proj(
        b.linear("image_embedder.proj", shape: [c.hiddenSize, c.inChannels, c.patchSize, c.patchSize]))
      positions = b.add("image_embedder.pos_embed", [1, c.sequenceLength, c.hiddenSize], drawn)
    }
  }

  /// The gradients of its tensors, from the rows' in the workspace (see ``BackwardPass/leaveTokens()``), whose padding has
  /// none. A program's own embeddings are not trained.
  func backward(_ pass: BackwardPass, _ input: SequenceInput) {
    let (c, d, samples) = (pass.c, pass.d, pass.samples)
    let rows = pass.ws.sequence[0..<samples * c.sequenceLength * d]
    for n in 0..<samples {
      let (start, real) = (n * c.sequenceLength * d, input.count(n) * d)
      rows[start + real..<start + c.sequenceLength * d].fill(0)
    }
    pass.context.addSum(
      into: pass.gradient(positions),
      ofRows: Matrix(rows.reading, rows: samples, columns: c.sequenceLength * d))
    switch (input.content, embedding) {
    case (.text, .table(let index)): addBytes(pass, input, rows.reading, to: pass.gradient(index))
    case (.image, .proj(let proj)):
      let count = samples * c.sequenceLength
      pass.throughFloat32(
        proj, into: nil, Matrix(rows.reading, rows: count, columns: d),
        Matrix(pass.ws.sequencePatches.reading, rows: count, columns: c.sequenceGrid.patchElements))
    default: break
    }
  }

  /// table[byte] += the row, in the order of the rows.
  private func addBytes(_ pass: BackwardPass, _ input: SequenceInput, _ rows: FloatSlice, to table: MutableFloatSlice) {
    let (length, d) = (pass.c.sequenceLength, pass.d)
    for n in 0..<pass.samples {
      for place in n * length..<n * length + input.count(n) {
        let byte = Int(input.bytes[place])
        pass.context.add(rows[place * d..<(place + 1) * d], to: table[byte * d..<(byte + 1) * d])
      }
    }
  }
}
