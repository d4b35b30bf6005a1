import DiTKernels
import DiTTensor

/// Values for every tensor of a ``ParameterTable``: one flat buffer, or views of a mapped checkpoint.
public struct Weights: Sendable {
  public let table: ParameterTable
  /// One per tensor, in the table's order.
  let parts: [TensorParts]
  /// Weights of linear layers that ``Precision/int8`` leaves in bf16, by their index.
  package var wide: Set<Int> = []

  /// One slice per tensor, in the table's order. What a file keeps in another form is made at each access, unless it is still held.
  public var slices: Slices { Slices(parts: parts) }

  /// See ``Weights/slices``.
  public struct Slices: RandomAccessCollection, Sendable {
    fileprivate let parts: [TensorParts]

    public var startIndex: Int { 0 }
    public var endIndex: Int { parts.count }
    public subscript(index: Int) -> FloatSlice { parts[index].slice }
  }

  /// Views of a flat buffer with the table's offsets.
  ///
  /// - Precondition: `flat.count` is at least the table's `elementCount`.
  public init(_ table: ParameterTable, flat: FloatSlice) {
    precondition(flat.count >= table.elementCount, "\(table.elementCount) elements expected, \(flat.count) found")
    self.table = table
    parts = table.parameters.map { TensorParts(flat[$0.range]) }
  }

  /// One slice for each tensor, wherever it lies.
  ///
  /// - Precondition: the counts are the table's.
  public init(_ table: ParameterTable, slices: some Collection<FloatSlice>) {
    self.init(table, parts: slices.map { TensorParts($0) })
  }

  /// The same, of tensors some of which are made when they are asked for. Where a file has int8 codes of some linear layers'
  /// weights, ``Precision/int8`` leaves the others' as they are.
  ///
  /// - Precondition: the counts are the table's.
  package init(_ table: ParameterTable, parts: [TensorParts]) {
    precondition(parts.count == table.parameters.count, "\(parts.count) tensors for \(table.parameters.count)")
    for (part, parameter) in zip(parts, table.parameters) {
      precondition(part.count == parameter.count, "\(parameter.name) \(parameter.shape): \(part.count) elements")
    }
    self.table = table
    self.parts = parts
    let layers = table.blockLayers.map(\.weight)
    if layers.contains(where: { parts[$0].isInt8 }) { wide = Set(layers.filter { !parts[$0].isInt8 }) }
  }

  /// The tensors that are made, but for some by their index: who holds them has each made once.
  func made(except others: Set<Int>) -> [FloatSlice] {
    parts.indices.filter { parts[$0].isMade && !others.contains($0) }.map { parts[$0].slice }
  }

  /// W of a layer, (outputs, inputs), to be packed: in bf16 where it lies so.
  func packable(_ layer: LinearLayer) -> Matrix {
    guard let halves = parts[layer.weight].halves else { return matrix(layer) }
    return Matrix(halves, rows: layer.outputs, columns: layer.inputs, format: .bf16)
  }

  /// The weights that products take as ``packable(_:)`` gives them, where all are packed.
  var packableHalves: [Int] {
    (table.conditioningLayers + table.blockLayers).map(\.weight).filter { parts[$0].halves != nil }
  }

  /// A new network's values (see ``Parameter/Initialization``): xavier-uniform linears, zero adaLN and final layer, so
  /// that its first output is exactly zero. Tensor i is drawn from stream i of `seed`.
  public static func initialized(_ configuration: DiTConfiguration, seed: UInt64) -> (
    weights: Weights, flat: MutableFloatSlice
  ) {
    let table = ParameterTable(configuration)
    let flat = MutableFloatSlice(zeros: table.elementCount)
    for (index, parameter) in table.parameters.enumerated() {
      parameter.initialize(flat[parameter.range], configuration, seed: seed, stream: UInt64(index))
    }
    return (Weights(table, flat: flat.reading), flat)
  }

  /// The slice of a tensor by name.
  public subscript(name: String) -> FloatSlice? {
    table.parameters.firstIndex { $0.name == name }.map { slices[$0] }
  }
}

extension Parameter {
  /// Draws this tensor's values anew.
  public func initialize(_ values: MutableFloatSlice, _ configuration: DiTConfiguration, seed: UInt64, stream: UInt64) {
    var random = Philox(seed: seed, stream: stream)
    switch initialization {
    case .zero: values.fill(0)
    case .constant(let value): values.fill(value)
    case .xavierUniform(let fanIn, let fanOut):
      let bound = (6 / Float(fanIn + fanOut)).squareRoot()
      var span = values.mutableSpan
      for i in 0..<span.count { span[i] = bound * (2 * random.uniform() - 1) }
    case .normal(let deviation):
      var span = values.mutableSpan
      random.fillNormal(&span)
      for i in 0..<span.count { span[i] *= deviation }
    case .sinCosPositions(let prefix):
      let grid = configuration.inputGrid
      sinCosPositions(
        output: values[prefix * configuration.hiddenSize..<values.count].mutableSpan, rows: grid.rows,
        columns: grid.columns, width: configuration.hiddenSize)
    }
  }
}
