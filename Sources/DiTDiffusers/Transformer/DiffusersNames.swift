import DiTModel

// The published names against diffusers'. Shapes are the same but for q, k and v, which diffusers keeps apart, and for the
// embedders, of which it has a copy in every block.

enum DiffusersNames {
  /// Of a tensor outside the blocks; the name in one is after `blocks.i.`.
  private static let outside = [
    "x_embedder.proj": "pos_embed.proj", "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
  ]
  private static let inBlock = [
    "adaLN_modulation.1": ["norm1.linear"], "attn.qkv": ["attn1.to_q", "attn1.to_k", "attn1.to_v"],
    "attn.proj": ["attn1.to_out.0"], "mlp.fc1": ["ff.net.0.proj"], "mlp.fc2": ["ff.net.2"],
  ]
  private static let embedder = [
    "t_embedder.mlp.0": "norm1.emb.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "norm1.emb.timestep_embedder.linear_2",
    "y_embedder.embedding_table": "norm1.emb.class_embedder.embedding_table",
  ]
  /// The position table, which old files may hold; it is computed.
  static let ignored: Set<String> = ["pos_embed.pos_embed"]

  /// diffusers' tensors whose rows, one after another, are the tensor `name`; none for the position table.
  ///
  /// - Parameter block: from which block a shared embedder's are taken.
  static func theirs(_ name: String, block: Int = 0) -> [String] {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard let kind = parts.last, parts.count > 1 else { return [] }
    if parts[0] == "blocks", parts.count > 3 {
      let stem = parts[2..<parts.count - 1].joined(separator: ".")
      let names = inBlock[stem] ?? embedder[stem].map { [$0] } ?? []
      return names.map { "transformer_blocks.\(parts[1]).\($0).\(kind)" }
    }
    let stem = parts.dropLast().joined(separator: ".")
    if let name = outside[stem] { return ["\(name).\(kind)"] }
    return embedder[stem].map { ["transformer_blocks.\(block).\($0).\(kind)"] } ?? []
  }

  /// Whether a tensor of ours embeds time or class.
  static func isEmbedder(_ name: String) -> Bool {
    embedder.keys.contains { name.hasPrefix($0) || name.contains(".\($0)") }
  }

  /// Every tensor of a diffusers transformer, with its shape, in the order of our table, a shared embedder's copies
  /// together: from which of our tensors it comes, and which of its equal parts it is.
  static func tensors(_ table: ParameterTable, depth: Int) -> [Tensor] {
    table.parameters.flatMap { parameter in
      let isShared = isEmbedder(parameter.name) && !parameter.name.hasPrefix("blocks.")
      return (0..<(isShared ? depth : 1)).flatMap { block in
        let names = theirs(parameter.name, block: block)
        return names.enumerated().map { part, name in
          var shape = parameter.shape
          shape[0] /= names.count
          return Tensor(name: name, shape: shape, source: parameter, part: part)
        }
      }
    }
  }

  /// A tensor of diffusers.
  struct Tensor {
    let name: String
    let shape: [Int]
    let source: Parameter
    /// 0, or which third.
    let part: Int

    var count: Int { shape.reduce(1, *) }
  }
}

extension DiffusersNames.Tensor {
  var isAttentionBias: Bool { source.name.hasSuffix("attn.qkv.bias") }
}
