import DiTTensor

// The names of an autoencoder's tensors in the files that hold them.
//
// diffusers                                       CompVis (under `first_stage_model.` or bare)
//   encoder.down_blocks.i.resnets.j.*               encoder.down.i.block.j.*
//   encoder.down_blocks.i.attentions.j.*            encoder.down.i.attn.j.*
//   encoder.down_blocks.i.downsamplers.0.conv       encoder.down.i.downsample.conv
//   decoder.up_blocks.i.*                           decoder.up.(last − i).*
//   decoder.up_blocks.i.upsamplers.0.conv           decoder.up.(last − i).upsample.conv
//   *.mid_block.resnets.0, .1                       *.mid.block_1, .block_2
//   *.mid_block.attentions.0.group_norm             *.mid.attn_1.norm
//                           .to_q to_k to_v                     .q .k .v
//                           .to_out.0                           .proj_out
//   conv_shortcut                                   nin_shortcut
//   conv_norm_out                                   norm_out
//
// diffusers' older files say query, key, value and proj_attn. Attention's weights are [C, C] or [C, C, 1, 1].

/// Which names a file uses.
enum NamingScheme: Equatable {
  case diffusers
  case diffusersOld
  case compVis(prefix: String)

  /// What stands before `encoder.conv_in.weight`, and which of the schemes goes on from there; nil when the file holds no
  /// autoencoder.
  init?(_ store: some TensorStore) {
    let query = "encoder.mid_block.attentions.0"
    if store.shape(of: "\(query).query.weight") != nil {
      self = .diffusersOld
    } else if store.shape(of: "encoder.down_blocks.0.resnets.0.norm1.weight") != nil {
      self = .diffusers
    } else if let prefix = ["first_stage_model.", ""].first(where: {
      store.shape(of: "\($0)encoder.down.0.block.0.norm1.weight") != nil
    }) {
      self = .compVis(prefix: prefix)
    } else {
      return nil
    }
  }

  /// The file's name for a tensor that diffusers calls `name`.
  func name(_ name: String, blocks: Int) -> String {
    switch self {
    case .diffusers: return name
    case .diffusersOld:
      guard name.contains(".attentions.") else { return name }
      return Self.replace(
        name, [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")])
    case .compVis(let prefix):
      var parts = name.split(separator: ".").map(String.init)
      if parts.count > 2, parts[1] == "up_blocks", let index = Int(parts[2]) { parts[2] = "\(blocks - 1 - index)" }
      return prefix
        + Self.replace(
          parts.joined(separator: "."),
          [
            (".down_blocks.", ".down."), (".up_blocks.", ".up."), (".mid_block.resnets.0.", ".mid.block_1."),
            (".mid_block.resnets.1.", ".mid.block_2."), (".mid_block.attentions.0.", ".mid.attn_1."),
            (".attentions.", ".attn."),
            (".downsamplers.0.", ".downsample."), (".upsamplers.0.", ".upsample."), (".resnets.", ".block."),
            (".conv_shortcut.", ".nin_shortcut."), (".conv_norm_out.", ".norm_out."), (".group_norm.", ".norm."),
            (".to_q.", ".q."), (".to_k.", ".k."), (".to_v.", ".v."), (".to_out.0.", ".proj_out."),
          ])
    }
  }

  /// Whether a tensor that the autoencoder does not have belongs to something else: the diffusion model and the text
  /// encoder of a whole checkpoint, the loss of a training run, its moving average, what VA-VAE is aligned with.
  func isForeign(_ name: String) -> Bool {
    guard case .compVis(let prefix) = self else { return false }
    if !prefix.isEmpty && !name.hasPrefix(prefix) { return true }
    let rest = name.dropFirst(prefix.count)
    return ["loss.", "model_ema.", "foundation_model.", "linear_proj."].contains { rest.hasPrefix($0) }
  }

  private static func replace(_ name: String, _ pairs: [(String, String)]) -> String {
    pairs.reduce(name) { $0.replacing($1.0, with: $1.1) }
  }
}

/// Reads tensors under the file's names.
struct NamedTensors {
  let store: any TensorStore
  let scheme: NamingScheme
  let blocks: Int

  func name(_ name: String) -> String { scheme.name(name, blocks: blocks) }

  /// [C, C] where the file has [C, C, 1, 1].
  private func shape(_ name: String, _ shape: [Int]) -> [Int] {
    guard shape.count == 2, store.shape(of: self.name(name)) == shape + [1, 1] else { return shape }
    return shape + [1, 1]
  }

  /// - Throws: `StateDictMismatch` unless the file holds exactly the tensors of the configuration.
  func check(_ configuration: AutoencoderConfiguration) throws {
    var keys: [StateDict.Key] = []
    let none = FloatSlice.empty
    let record: WeightReader = { name, shape in
      keys.append((self.name(name), self.shape(name, shape)))
      return none
    }
    _ = try EncoderLayers(configuration, record)
    _ = try DecoderLayers(configuration, record)
    let foreign = store.keys.map(\.name).filter(scheme.isForeign)
    try StateDict.check(store, holds: keys, ignoring: Set(foreign))
  }

  /// - Throws: `DiTError` for a tensor that holds NaN or infinity, and what the store throws.
  func read(_ name: String, _ shape: [Int]) throws -> FloatSlice {
    let name = self.name(name)
    let slice = try store.slice(name)
    guard let bad = slice.span.firstNotFinite else {
      slice.releasePages()
      return slice
    }
    throw DiTError(
      file: store.path, .tensor(name), expected: "finite numbers", found: "\(slice[bad]) at element \(bad)")
  }
}
