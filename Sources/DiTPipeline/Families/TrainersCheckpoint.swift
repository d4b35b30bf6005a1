import DiTFiles
import DiTModel
import DiTTensor

// What the writers of trainers' checkpoints share.

/// Tensors of a torch file that is put together of several state dicts.
package struct TorchTensors {
  package private(set) var sources: [TensorSource] = []
  private let dtype: Dtype

  /// - Parameter dtype: of the trained tensors: F32, BF16 or F16. What is not trained stays float32.
  package init(_ dtype: Dtype) { self.dtype = dtype }

  /// A state dict of all weights, whose names begin with `prefix`.
  ///
  /// - Parameter change: makes another tensor of one by name, where it does not go as it is.
  package mutating func stateDict(
    _ weights: Weights, prefix: String = "",
    change: (String, FloatSlice) -> (FloatSlice, shape: [Int])? = { _, _ in nil }
  ) -> TorchWriter.Value {
    let start = sources.count
    for (parameter, slice) in zip(weights.table.parameters, weights.slices) {
      let (values, shape) = change(parameter.name, slice) ?? (slice, parameter.shape)
      sources.append(TensorSource(parameter.name, values, shape: shape, as: parameter.isTrained ? dtype : .f32))
    }
    return .stateDict(weights.table.parameters.enumerated().map { ("\(prefix)\($1.name)", start + $0) })
  }
}

extension ModelConfiguration {
  /// A published size with this model's input and classes, which a trainer is told beside the size's name.
  ///
  /// - Parameter code: whose trainer it is, as in `JiT's`.
  /// - Throws: `DiTError` for an input that is no square, and classes without a null class.
  func sized(as size: PublishedSize, code: String, file: String) throws(DiTError) -> ModelConfiguration {
    guard network.inputHeight == network.inputWidth else {
      throw DiTError(
        file: file, .key("input_size"), expected: "a square", found: "\(network.inputHeight)×\(network.inputWidth)")
    }
    guard network.hasNullClass else {
      throw DiTError(
        file: file, .key("class_dropout_prob"), expected: "more than 0, as \(code) label table ends in a null class",
        found: "\(network.classDropoutProb)")
    }
    var sized = size.model
    (sized.network.inputHeight, sized.network.inputWidth) = (network.inputHeight, network.inputWidth)
    (sized.network.numClasses, sized.network.classDropoutProb) = (network.numClasses, network.classDropoutProb)
    return sized
  }

  /// Throws where a key of network or process is not another configuration's.
  ///
  /// - Parameter code: whose configuration that is, as in `JiT's`.
  func checkKeys(against other: ModelConfiguration, code: String, file: String) throws(DiTError) {
    let (ours, theirs) = (processKeys, other.processKeys)
    // A key at its default is not written.
    for key in Set(ours.keys).union(theirs.keys).sorted() where ours[key] != theirs[key] {
      throw DiTError(
        file: file, .key(key), expected: "\(theirs[key]?.summary ?? "its default"), as \(code) code has it",
        found: ours[key]?.summary ?? "its default")
    }
  }

  /// The keys of config.json that say what network and process a model is.
  private var processKeys: [String: JSONValue] {
    guard case .object(let members) = json else { return [:] }
    var found: [String: JSONValue] = [:]
    let others = ["family", "sampling", "class_names", "vae", "latent_statistics"]
    for member in members where !others.contains(member.key) {
      guard member.key == "diffusion", case .object(let inner) = member.value else {
        found[member.key] = member.value
        continue
      }
      for part in inner { found["diffusion.\(part.key)"] = part.value }
    }
    return found
  }
}
