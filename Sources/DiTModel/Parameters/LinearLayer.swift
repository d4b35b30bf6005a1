import DiTKernels
import DiTTensor
import Synchronization

/// A linear layer, y = x Wᵀ + b: its tensors by index in the parameter table.
package struct LinearLayer: Sendable {
  package let weight: Int
  /// Nil without a bias.
  package let bias: Int?
  package let inputs, outputs: Int
  /// Whether the outputs are two halves that one epilogue multiplies (SwiGLU): packed, a tile has columns of both.
  var isHalved = false
}

/// A linear layer as a pass reads it: y = x Wᵀ + b, or backwards dx = dy W.
struct ReadyLayer {
  /// The right factor of the pass's direction: Wᵀ, or W.
  let factor: Matrix
  let bias: FloatSlice?
  /// Where OpenBLAS multiplies, its products do not cross the borders of this many equal parts of the rows.
  var parts = 1
  /// Where the factor is packed panel by panel, each just before its products.
  var scratch: MutableFloatSlice?
}

/// Where the passes of a network take packed weights from.
package enum LayerSource {
  /// OpenBLAS multiplies, from the weights as they are.
  ///
  /// `parts`: of the rows, each multiplied apart from the others. With one part per sample, a sample's bits do not depend
  /// on the others; with one in all, products are larger.
  case blas(parts: Int)
  /// Packed once, for weights that do not change.
  case stored(PackedWeights)
  /// Packed just before the product into memory that the next layer reuses, for weights that do.
  case packing(MutableFloatSlice)
  /// Packed panel by panel, in float32, into the threads' parts of this scratch: for few rows.
  case panelwise(MutableFloatSlice)
}

// MARK: - Forward

extension DiTNetwork {
  /// A layer for the forward direction, its weight in `format` where it is packed here.
  private func ready(_ layer: LinearLayer, _ source: LayerSource, _ format: Format) -> ReadyLayer {
    let bias = layer.bias.map { weights.slices[$0] }
    // Not asked for where it is packed already: a weight that its file keeps in another form would be made anew.
    var weight: Matrix { weights.matrix(layer).transposed }
    var packable: Matrix { weights.packable(layer).transposed }
    switch source {
    case .blas(let parts): return ReadyLayer(factor: weight, bias: bias, parts: parts)
    case .stored(let store): return ReadyLayer(factor: store[layer] ?? weight, bias: bias)
    case .packing(let memory):
      let factor = context.pack(packable, into: memory, as: format, halves: layer.isHalved)
      return ReadyLayer(factor: factor, bias: bias)
    case .panelwise(let scratch): return ReadyLayer(factor: packable, bias: bias, scratch: scratch)
    }
  }

  /// y = x Wᵀ + b, and what follows it. Where W is packed here, it is in x's format.
  package func apply(
    _ layer: LinearLayer, _ source: LayerSource, to x: Matrix, into y: MutableMatrix, epilogue: Epilogue = .store
  ) {
    let ready = ready(layer, source, x.format)
    context.product(
      into: y, x, ready.factor, bias: ready.bias, epilogue: epilogue, parts: ready.parts, packingInto: ready.scratch)
  }
}

extension ForwardPass {
  /// What enters a layer of the blocks, in the format of its product: rows of the memory for what enters a half of a block.
  func entry(_ layer: LinearLayer, rows: Int) -> MutableMatrix {
    network.format(of: layer) == .int8 ? codes(rows: rows, columns: layer.inputs) : memory.h.prefix(rows)
  }

  /// Rows of int8, in the memory for what enters a half of a block.
  private func codes(rows: Int, columns: Int) -> MutableMatrix {
    MutableMatrix(memory.codes, rows: rows, columns: columns, format: .int8)
  }

  /// y = x Wᵀ + b, and what follows it. Where the layer's products are of int8 and x is not, it is first made so, in the memory
  /// for what enters a half of a block, which has then been used.
  package func apply(_ layer: LinearLayer, to x: Matrix, into y: MutableMatrix, epilogue: Epilogue = .store) {
    guard x.format == .bf16, network.format(of: layer) == .int8 else {
      network.apply(layer, source, to: x, into: y, epilogue: epilogue)
      return
    }
    let codes = codes(rows: x.rows, columns: x.columns)
    context.quantize(into: codes, x)
    network.apply(layer, source, to: codes.reading, into: y, epilogue: epilogue)
  }
}

// MARK: - Backward

extension BackwardPass {
  /// W for dx = dy W.
  package func factor(_ layer: LinearLayer) -> Matrix {
    let weight = network.weights.matrix(layer)
    guard case .packing(let memory) = forward.source else { return weight }
    return context.pack(weight, into: memory, as: network.format)
  }

  /// dW += dyᵀ x, db += Σ dy.
  ///
  /// - Parameter scratch: as ``ComputeContext/weightGradient(into:bias:_:_:scratch:)`` takes it.
  package func weightGradient(_ layer: LinearLayer, _ dy: Matrix, _ x: Matrix, scratch: MutableFloatSlice?) {
    context.weightGradient(
      into: MutableMatrix(gradient(layer.weight), rows: layer.outputs, columns: layer.inputs),
      bias: layer.bias.map(gradient), dy, x, scratch: scratch)
  }

  /// A layer inside a block: its gradients, and dx = dy W.
  package func through(_ layer: LinearLayer, into dx: MutableMatrix, _ dy: Matrix, _ x: Matrix) {
    weightGradient(layer, dy, x, scratch: network.isPacked ? ws.gradientScratch : nil)
    context.product(into: dx, dy, factor(layer))
  }

  /// A layer outside the blocks: float32, by OpenBLAS; dx unless it is nil.
  func throughFloat32(
    _ layer: LinearLayer, into dx: MutableMatrix?, _ dy: Matrix, _ x: Matrix, accumulating: Bool = false
  ) {
    weightGradient(layer, dy, x, scratch: nil)
    guard let dx else { return }
    context.product(
      into: dx, dy, network.weights.matrix(layer), epilogue: accumulating ? .accumulate : .store)
  }
}

// MARK: - Packed weights

extension Weights {
  /// W, (outputs, inputs).
  func matrix(_ layer: LinearLayer) -> Matrix {
    Matrix(slices[layer.weight], rows: layer.outputs, columns: layer.inputs)
  }
}

extension LinearLayer {
  /// Floats of the packed layer in the forward direction.
  func packedElements(_ format: Format) -> Int {
    ComputeContext.packedElements(depth: inputs, columns: outputs, format: format)
  }
}

extension Weights {
  /// What the factors of a block's layer hold.
  func format(of layer: LinearLayer, _ precision: Precision) -> Format {
    wide.contains(layer.weight) ? precision.format : precision.weightFormat
  }

  /// The layers whose products run over packed weights, with the format of each: the patch embedding and the final layer in
  /// float32, the blocks' as ``format(of:_:)`` says.
  ///
  /// The time MLP and adaLN are not: they have few rows, and when sampling they are computed once for many steps, from
  /// weights that are packed as they come (``ParameterTable/conditioningLayers``).
  func packedLayers(_ precision: Precision) -> [(LinearLayer, Format)] {
    (table.patchEmbedding.layers + [table.finalLayer.linear]).map { ($0, Format.fp32) }
      + table.blockLayers.map { ($0, format(of: $0, precision)) }
  }

  /// Floats that hold the largest packed layer, in either direction.
  func largestPackedLayer(_ precision: Precision) -> Int {
    packedLayers(precision).map { layer, format in
      max(
        layer.packedElements(format),
        ComputeContext.packedElements(depth: layer.outputs, columns: layer.inputs, format: format))
    }.max() ?? 0
  }

  /// Floats that the largest weight gradient's packed operands need.
  func largestGradientScratch(rows: Int, _ precision: Precision) -> Int {
    packedLayers(precision).map { layer, _ in
      ComputeContext.weightGradientScratch(
        rows: rows, inputs: layer.inputs, outputs: layer.outputs, format: precision.format)
    }.max() ?? 0
  }
}

extension ParameterTable {
  /// All linear layers.
  package var linearLayers: [LinearLayer] {
    patchEmbedding.layers + [finalLayer.linear] + blockLayers + conditioningLayers
  }

  /// The blocks' linear layers over tokens.
  package var blockLayers: [LinearLayer] { layersOfBlocks.flatMap(\.self) }
  /// The same of each block.
  package var layersOfBlocks: [[LinearLayer]] { blocks.map(\.layers) }

  /// The weights of the layers that see the time and the class.
  package var conditioningWeights: [Int] { conditioningLayers.map(\.weight) }

  /// The layers that see the time and the class, not the tokens.
  var conditioningLayers: [LinearLayer] {
    conditioning.embedders.flatMap(\.layers) + (0...blocks.count).compactMap { modulation($0).adaLN }
      + blocks.flatMap { $0.attention.maskGate?.layers ?? [] }
  }

  /// The most inputs that one of them has.
  var deepestConditioningLayer: Int { conditioningLayers.map(\.inputs).max() ?? 0 }
}

/// The weights of a network in the order in which the product kernels read them; immutable.
package struct PackedWeights: Sendable {
  /// By the weight's index in the parameter table.
  private let layers: [Matrix?]

  /// Packs every layer that is used packed, and lets go of the pages of mapped weights.
  init(_ weights: Weights, precision: Precision, context: ComputeContext) {
    let table = weights.table
    var layout = ArenaLayout()
    let plans = weights.packedLayers(precision).map { layer, format in
      (layer, format, layout.reserve(layer.packedElements(format)))
    }
    let arena = MutableFloatSlice(uninitialized: layout.count)
    var layers = [Matrix?](repeating: nil, count: table.parameters.count)
    for (layer, format, range) in plans {
      layers[layer.weight] = context.pack(
        weights.packable(layer).transposed, into: arena[range], as: format, halves: layer.isHalved)
      weights.parts[layer.weight].releasePages()
    }
    self.layers = layers
  }

  /// Wᵀ in panels.
  subscript(_ layer: LinearLayer) -> Matrix? { layers[layer.weight] }
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
