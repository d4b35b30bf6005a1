import DiTDiffusers
import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import Testing

/// A position table belongs to a grid, not to a number of patches.
@Suite("Position tables and their grids") struct PositionTableTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// Of 16 patches each: 4×4 and 2×8.
  private static let square = DiTConfiguration(
    inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 4, hiddenSize: 24, depth: 1, numHeads: 3, numClasses: 10)
  private static let wide: DiTConfiguration = {
    var wide = square
    (wide.inputHeight, wide.inputWidth) = (4, 16)
    return wide
  }()

  private func table(_ c: DiTConfiguration) -> [Float] {
    let table = MutableFloatSlice(zeros: c.tokens * c.hiddenSize)
    sinCosPositions(
      output: table.mutableSpan, rows: c.inputGrid.rows, columns: c.inputGrid.columns, width: c.hiddenSize)
    return table.array
  }

  private static let own: [Float] = normal([16 * 24], seed: 3).elements

  /// A state dict of `network` with another position table.
  private func write(_ network: DiTConfiguration, _ table: [Float], as dtype: Dtype = .f32) throws -> String {
    let weights = randomWeights(network)
    let tensors = zip(weights.table.parameters, weights.slices).map { parameter, slice in
      parameter.name == "pos_embed"
        ? TensorSource(
          parameter.name, Tensor(shape: [1, table.count / network.hiddenSize, network.hiddenSize], elements: table),
          as: dtype)
        : TensorSource(parameter.name, slice, shape: parameter.shape)
    }
    try SafetensorsWriter.write(tensors, to: directory("model.safetensors"))
    return directory("model.safetensors")
  }

  /// A model directory of `network` with another position table; what is then used.
  private func used(_ network: DiTConfiguration, _ stored: [Float], as dtype: Dtype = .f32) throws -> [Float] {
    _ = try write(network, stored, as: dtype)
    try ModelConfiguration(network: network).write(to: directory("config.json"))
    return try #require(ModelReference(directory.path).load().weights?["pos_embed"]).array
  }

  @Test("A model directory never uses another grid's fixed table, though it has as many rows")
  func directoriesHaveTheirGrid() throws {
    #expect(try used(Self.wide, table(Self.wide)) == table(Self.wide))
    #expect(try used(Self.wide, table(Self.square)) == table(Self.wide))
    #expect(try used(Self.square, table(Self.wide)) == table(Self.square))
    #expect(try used(Self.wide, table(Self.square), as: .bf16) == table(Self.wide), "rounded")
    let rounded = try used(Self.wide, table(Self.wide), as: .bf16)
    #expect(
      rounded != table(Self.wide) && zip(rounded, table(Self.wide)).allSatisfy { abs($0 - $1) < 4e-3 }, "its own bits")
  }

  @Test("A table that is not the fixed one of any grid is the model's own, and is resampled for another size")
  func ownTablesAreKept() throws {
    #expect(try used(Self.square, Self.own) == Self.own)
    #expect(try used(Self.wide, Self.own) == Self.own)
    var large = Self.square
    (large.inputHeight, large.inputWidth) = (12, 12)
    let expected = MutableFloatSlice(zeros: 36 * 24)
    let stored = MutableFloatSlice(zeros: Self.own.count)
    for i in 0..<Self.own.count { stored[i] = Self.own[i] }
    resamplePositions(output: expected.mutableSpan, table: stored.span, from: (4, 4), to: (6, 6), width: 24)
    #expect(try used(large, Self.own) == expected.array)
    (large.inputHeight, large.inputWidth) = (2, 6)
    #expect(try used(large, Array(Self.own[..<(9 * 24)])).count == 3 * 24)
    let error = #expect(throws: DiTError.self) { try used(large, Array(Self.own[..<(5 * 24)])) }
    #expect(error?.tensor == "pos_embed" && error?.found == "5 rows")
  }

  @Test("A learned table that is another grid's fixed one is resampled from that grid")
  func learnedTablesHaveTheirGrid() throws {
    var learned = Self.wide
    learned.position = .learned
    #expect(try used(learned, Self.own) == Self.own)
    #expect(try used(learned, table(Self.wide)) == table(Self.wide))
    let expected = MutableFloatSlice(zeros: 16 * 24)
    let (stored, values) = (MutableFloatSlice(zeros: 16 * 24), table(Self.square))
    for i in values.indices { stored[i] = values[i] }
    resamplePositions(output: expected.mutableSpan, table: stored.span, from: (4, 4), to: (2, 8), width: 24)
    #expect(try used(learned, values) == expected.array)
  }

  @Test("A state dict's input size is that of the grid whose table it holds")
  func stateDictsTellTheirGrid() throws {
    let hints = StateDictHints(heads: 3)
    func size(_ path: String, _ hints: StateDictHints) throws -> [Int] {
      let network = try ModelReference(path).configuration(hints: hints).network
      return [network.inputHeight, network.inputWidth]
    }
    #expect(try size(write(Self.square, table(Self.square)), hints) == [8, 8])
    #expect(try size(write(Self.wide, table(Self.wide)), hints) == [4, 16])
    #expect(try size(write(Self.square, Self.own), hints) == [8, 8], "nothing tells, so it is square")
    var odd = Self.square
    (odd.inputHeight, odd.inputWidth) = (6, 10)
    #expect(try size(write(odd, table(odd)), hints) == [6, 10])
    let own = try write(odd, Array(Self.own[..<(15 * 24)]))
    let error = #expect(throws: DiTError.self) { try size(own, hints) }
    #expect(error?.tensor == "pos_embed" && error?.expected?.contains("--config") == true)

    // Stated, it is the stated one; the table is then computed where it is another grid's.
    let file = try directory.write(#"{"input_size": [4, 16], "num_heads": 3}"#, to: "c.json")
    let stated = StateDictHints(keys: try ModelKeys(contentsOf: file))
    let path = try write(Self.square, table(Self.square))
    #expect(try size(path, stated) == [4, 16])
    #expect(try ModelReference(path).load(hints: stated).weights?["pos_embed"]?.array == table(Self.wide))
    let odder = try directory.write(#"{"model": {"input_size": [6, 10], "num_heads": 3}}"#, to: "d.json")
    let keys = StateDictHints(keys: try ModelKeys(contentsOf: odder))
    #expect(try size(write(odd, Array(Self.own[..<(15 * 24)])), keys) == [6, 10])
    #expect(
      try ModelReference(directory("model.safetensors")).load(hints: keys).weights?["pos_embed"]?.array.count == 360)
  }

  @Test(
    "A position table that diffusers cannot hold is refused when a model is converted, and kept in a model directory")
  func conversionKeepsOrRefuses() throws {
    let path = try write(Self.square, Self.own)
    let hints = StateDictHints(heads: 3)
    let error = #expect(throws: DiTError.self) {
      try ModelConversion(path, to: .diffusers, hints: hints, context: ComputeContext(threads: 1))
    }
    #expect(error?.name == "pos_embed" && error?.found?.contains("another table") == true)
    try ModelConversion(path, to: .dit, hints: hints).write(to: directory("out"))
    #expect(try ModelReference(directory("out")).load().weights?["pos_embed"]?.array == Self.own)
  }

  @Test("A measured difference is that of the files that were written, bfloat16 included")
  func differencesAreMeasuredOnWhatIsWritten() throws {
    var network = Self.square
    network.timeFrequencies = .diffusers
    try ModelDirectory.write(
      ModelConfiguration(network: network), model: randomWeights(network), ema: nil, to: directory("m"))
    let context = try ComputeContext(threads: 1)
    let model = try DiT(contentsOf: directory("m"), context: context)
    let conversion = try ModelConversion(directory("m"), to: .diffusers, context: context)
    func deviation(_ dtype: Dtype) throws -> Double {
      try conversion.write(to: directory("d"), as: dtype, replacing: true)
      let written = try DiT(contentsOf: directory("d"), context: context).network.weights
      return try DiffusersExport(model.configuration, weights: model.network.weights, vae: nil, name: "m")
        .deviation(written: written, context: context)
    }
    #expect(try deviation(.f32) < 1e-6)
    #expect(try deviation(.bf16) > 1e-4)
  }
}
