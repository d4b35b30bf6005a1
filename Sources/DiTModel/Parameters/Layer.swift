import DiTKernels
import DiTTensor
import Synchronization

/// A linear layer as a pass reads it: y = x Wᵀ + b, or backwards dx = dy W.
struct Layer {
  /// The right factor of the pass's direction: Wᵀ, or W.
  let factor: Matrix
  let bias: FloatSlice
  /// Where OpenBLAS multiplies, its products do not cross the borders of this many equal parts of the rows.
  var parts = 1
  /// Where the factor is packed panel by panel, each just before its products.
  var scratch: MutableFloatSlice?
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
  case packing(MutableFloatSlice, Format)
  /// Packed panel by panel, in float32, into the threads' parts of this scratch: for few rows.
  case panelwise(MutableFloatSlice)
}

extension DiTNetwork {
  /// A layer for the forward direction. `format` overrides the source's, for layers that stay in float32.
  func layer(_ affine: ParameterTable.LinearParameters, _ source: LayerSource, format: Format? = nil) -> Layer {
    let weight = weights.matrix(affine).transposed
    switch source {
    case .blas(let parts): return Layer(factor: weight, bias: bias(affine), parts: parts)
    case .stored(let store): return Layer(factor: store[affine] ?? weight, bias: bias(affine))
    case .packing(let memory, let usual):
      return Layer(factor: context.pack(weight, into: memory, as: format ?? usual), bias: bias(affine))
    case .panelwise(let scratch): return Layer(factor: weight, bias: bias(affine), scratch: scratch)
    }
  }

  /// A layer for the backward direction, dx = dy W.
  func backwardLayer(_ affine: ParameterTable.LinearParameters, _ source: LayerSource) -> Layer {
    let weight = weights.matrix(affine)
    guard case .packing(let memory, let format) = source else { return Layer(factor: weight, bias: bias(affine)) }
    return Layer(factor: context.pack(weight, into: memory, as: format), bias: bias(affine))
  }

  /// y = x Wᵀ + b, and what follows it.
  func apply(_ layer: Layer, to x: Matrix, into y: MutableMatrix, epilogue: Epilogue = .store) {
    context.product(
      into: y, x, layer.factor, bias: layer.bias, epilogue: epilogue, parts: layer.parts, packingInto: layer.scratch)
  }
}

extension Weights {
  /// W, (outputs, inputs).
  func matrix(_ affine: ParameterTable.LinearParameters) -> Matrix {
    let (inputs, outputs) = table.extents(affine)
    return Matrix(slices[affine.weight], rows: outputs, columns: inputs)
  }
}

extension ParameterTable {
  /// Columns and rows of a layer's weight.
  func extents(_ affine: LinearParameters) -> (inputs: Int, outputs: Int) {
    let weight = parameters[affine.weight]
    return (weight.count / weight.shape[0], weight.shape[0])
  }

  /// The layers whose products run over packed weights, with the format of each: the patch embedding and the final layer in
  /// float32, the blocks' in `format`.
  ///
  /// The time MLP and adaLN are not: they have few rows, and when sampling they are computed once for many steps, from
  /// weights that are packed as they come (``conditioningLayers``).
  func packedLayers(_ format: Format) -> [(LinearParameters, Format)] {
    var layers = [(patchEmbedding, Format.fp32), (finalLinear, .fp32)]
    for block in blocks { layers += [block.qkv, block.proj, block.fc1, block.fc2].map { ($0, format) } }
    return layers
  }

  /// The layers that see the time and the class, not the tokens.
  var conditioningLayers: [LinearParameters] {
    var layers = embedders.flatMap { [$0.time0, $0.time2] }
    for index in 0...blocks.count { if case .adaLN(let adaLN) = norms(index) { layers.append(adaLN) } }
    for block in blocks { if let gate = block.maskGate { layers += [gate.first, gate.second] } }
    return layers
  }

  /// The most inputs that one of them has.
  var deepestConditioningLayer: Int { conditioningLayers.map { extents($0).inputs }.max() ?? 0 }

  /// Floats that hold the largest packed layer, in either direction.
  func largestPackedLayer(_ format: Format) -> Int {
    packedLayers(format).map { affine, format in
      let (inputs, outputs) = extents(affine)
      return max(
        ComputeContext.packedElements(depth: inputs, columns: outputs, format: format),
        ComputeContext.packedElements(depth: outputs, columns: inputs, format: format))
    }.max() ?? 0
  }
}

extension ParameterTable {
  /// Floats that the largest weight gradient's packed operands need.
  func largestGradientScratch(rows: Int, _ format: Format) -> Int {
    packedLayers(format).map { affine, _ in
      let (inputs, outputs) = extents(affine)
      return ComputeContext.weightGradientScratch(rows: rows, inputs: inputs, outputs: outputs, format: format)
    }.max() ?? 0
  }
}

/// The weights of a network in the order in which the product kernels read them; immutable.
struct PackedWeights: Sendable {
  /// By the weight's index in the parameter table.
  private let layers: [Matrix?]

  /// Packs every layer that is used packed, and lets go of the pages of mapped weights.
  init(_ weights: Weights, format: Format, context: ComputeContext) {
    let table = weights.table
    var layout = ArenaLayout()
    let plans = table.packedLayers(format).map { affine, format in
      let (inputs, outputs) = table.extents(affine)
      let size = ComputeContext.packedElements(depth: inputs, columns: outputs, format: format)
      return (affine, format, layout.reserve(size))
    }
    let arena = MutableFloatSlice(uninitialized: layout.count)
    var layers = [Matrix?](repeating: nil, count: table.parameters.count)
    for (affine, format, range) in plans {
      layers[affine.weight] = context.pack(weights.matrix(affine).transposed, into: arena[range], as: format)
      weights.slices[affine.weight].releasePages()
    }
    self.layers = layers
  }

  /// Wᵀ in panels.
  subscript(_ affine: ParameterTable.LinearParameters) -> Matrix? { layers[affine.weight] }
}

/// Packed weights that are made when they are first asked for.
final class PackedWeightStore: Sendable {
  private let weights = Mutex<PackedWeights?>(nil)

  func packed(_ source: Weights, format: Format, context: ComputeContext) -> PackedWeights {
    weights.withLock { made in
      if let made { return made }
      let new = PackedWeights(source, format: format, context: context)
      made = new
      return new
    }
  }
}
