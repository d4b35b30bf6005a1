import DiTKernels
import DiTTensor
import Synchronization

/// A linear layer as a pass reads it: y = x Wᵀ + b.
struct Layer {
  let weight, bias: Slice
  let inputs, outputs: Int
  /// Where OpenBLAS multiplies, its products do not cross the borders of this many equal parts of the rows.
  let parts: Int
  /// W packed for the pass's direction; nil where OpenBLAS multiplies.
  let packed: Activation?
}

/// Where the passes of a network take packed weights from.
enum LayerSource {
  /// OpenBLAS multiplies, from the weights as they are.
  ///
  /// `parts`: of the rows, each multiplied apart from the others. With one part per sample, a sample's bits do not depend
  /// on the others; with one in all, products are larger.
  case blas(parts: Int)
  /// Packed once, for weights that do not change.
  case stored(PackedWeights)
  /// Packed just before the product into memory that the next layer reuses, for weights that do.
  case packing(Slice, Precision)
}

extension DiTNetwork {
  /// A layer for the forward direction. `precision` overrides the source's, for layers that stay in float32.
  func layer(_ affine: ParameterTable.LinearParameters, _ source: LayerSource, precision: Precision? = nil) -> Layer {
    let (inputs, outputs) = weights.table.extents(affine)
    let packed: Activation?
    var parts = 1
    switch source {
    case .blas(let count): (packed, parts) = (nil, count)
    case .stored(let store): packed = store[affine]
    case .packing(let memory, let format):
      let format = precision ?? format
      let weight = weight(affine)
      context.packForward(
        memory.mutableBytes, weight: weight.span, inputs: inputs, outputs: outputs, precision: format)
      packed = Activation(memory, format)
    }
    return Layer(
      weight: weight(affine), bias: bias(affine), inputs: inputs, outputs: outputs, parts: parts, packed: packed)
  }

  /// A layer for the backward direction, dx = dy W.
  func backwardLayer(_ affine: ParameterTable.LinearParameters, _ source: LayerSource) -> Layer {
    let (inputs, outputs) = weights.table.extents(affine)
    var packed: Activation?
    if case .packing(let memory, let precision) = source {
      let weight = weight(affine)
      context.packBackward(
        memory.mutableBytes, weight: weight.span, inputs: inputs, outputs: outputs, precision: precision)
      packed = Activation(memory, precision)
    }
    return Layer(
      weight: weight(affine), bias: bias(affine), inputs: inputs, outputs: outputs, parts: 1, packed: packed)
  }
}

extension ParameterTable {
  /// Columns and rows of a layer's weight.
  func extents(_ affine: LinearParameters) -> (inputs: Int, outputs: Int) {
    let weight = parameters[affine.weight]
    return (weight.count / weight.shape[0], weight.shape[0])
  }

  /// The layers whose products run over packed weights, with the format of each: the patch embedding and the final layer in
  /// float32, the blocks' in `precision`.
  ///
  /// The time MLP and adaLN are not: they have few rows, and when sampling they are computed once for many steps, from
  /// weights that are packed as they come (``conditioningLayers``).
  func packedLayers(_ precision: Precision) -> [(LinearParameters, Precision)] {
    var layers = [(patchEmbedding, Precision.fp32), (finalLinear, .fp32)]
    for block in blocks { layers += [block.qkv, block.proj, block.fc1, block.fc2].map { ($0, precision) } }
    return layers
  }

  /// The layers that see the time and the class, not the tokens.
  var conditioningLayers: [LinearParameters] {
    var layers = embedders.flatMap { [$0.time0, $0.time2] }
    for index in 0...blocks.count { if case .adaLN(let adaLN) = norms(index) { layers.append(adaLN) } }
    for block in blocks { if let gate = block.maskGate { layers += [gate.first, gate.second] } }
    return layers
  }

  /// Floats that hold the largest of them, packed.
  var largestConditioningLayer: Int {
    conditioningLayers.map { affine in
      let (inputs, outputs) = extents(affine)
      return ComputeContext.packedElements(depth: inputs, columns: outputs, precision: .fp32)
    }.max() ?? 0
  }

  /// Floats that hold the largest packed layer, in either direction.
  func largestPackedLayer(_ precision: Precision) -> Int {
    packedLayers(precision).map { affine, format in
      let (inputs, outputs) = extents(affine)
      return max(
        ComputeContext.packedElements(depth: inputs, columns: outputs, precision: format),
        ComputeContext.packedElements(depth: outputs, columns: inputs, precision: format))
    }.max() ?? 0
  }
}

extension ParameterTable {
  /// Floats that the largest weight gradient's packed operands need.
  func largestGradientScratch(rows: Int, _ precision: Precision) -> Int {
    packedLayers(precision).map { affine, _ in
      let (inputs, outputs) = extents(affine)
      return ComputeContext.packedGradientScratch(rows: rows, inputs: inputs, outputs: outputs, precision: precision)
    }.max() ?? 0
  }
}

/// The weights of a network in the order in which the product kernels read them; immutable.
struct PackedWeights: Sendable {
  /// By the weight's index in the parameter table.
  private let layers: [Activation?]

  /// Packs every layer that is used packed, and lets go of the pages of mapped weights.
  init(_ weights: Weights, precision: Precision, context: ComputeContext) {
    let table = weights.table
    var layout = ArenaLayout()
    let plans = table.packedLayers(precision).map { affine, format in
      let (inputs, outputs) = table.extents(affine)
      return (
        affine, format,
        layout.reserve(ComputeContext.packedElements(depth: inputs, columns: outputs, precision: format))
      )
    }
    let arena = Slice(uninitialized: layout.count)
    var layers = [Activation?](repeating: nil, count: table.parameters.count)
    for (affine, format, range) in plans {
      let (inputs, outputs) = table.extents(affine)
      let (packed, weight) = (arena[range], weights.slices[affine.weight])
      context.packForward(
        packed.mutableBytes, weight: weight.span, inputs: inputs, outputs: outputs, precision: format)
      weight.releasePages()
      layers[affine.weight] = Activation(packed, format)
    }
    self.layers = layers
  }

  subscript(_ affine: ParameterTable.LinearParameters) -> Activation? { layers[affine.weight] }
}

/// Packed weights that are made when they are first asked for.
final class PackedWeightStore: Sendable {
  private let weights = Mutex<PackedWeights?>(nil)

  func packed(_ source: Weights, precision: Precision, context: ComputeContext) -> PackedWeights {
    weights.withLock { made in
      if let made { return made }
      let new = PackedWeights(source, precision: precision, context: context)
      made = new
      return new
    }
  }
}
