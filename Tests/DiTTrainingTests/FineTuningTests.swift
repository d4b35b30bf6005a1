import DiTFiles
import DiTKernels
import DiTModel
import DiTPipeline
import DiTTensor
import DiTTraining
import Testing

@Suite("Starting weights from another model") struct FineTuningTests {
  private static let table = "y_embedder.embedding_table.weight"

  private func start(
    from origin: DiTConfiguration, for target: DiTConfiguration, seed: Int = 1
  ) throws -> (source: Weights, found: Weights, notes: [String]) {
    let source = Weights.initialized(origin, seed: 77).weights
    let start = try StartingWeights(from: source, of: origin, for: target, seed: seed, name: "base")
    return (source, Weights(ParameterTable(target), flat: start.flat), start.notes)
  }

  /// The names whose values differ between the two.
  private func changed(_ a: Weights, _ b: Weights) -> [String] {
    a.table.parameters.map(\.name).filter { a[$0]?.array != b[$0]?.array }
  }

  @Test("The same network's weights are taken as they are")
  func sameNetworkIsTakenAsItIs() throws {
    let (source, found, notes) = try start(from: tinyNetwork(), for: tinyNetwork())
    #expect(changed(source, found).isEmpty && notes.isEmpty)
  }

  @Test("Another number of classes makes a new label table and keeps the rest")
  func otherClassesRemakeTheLabelTable() throws {
    let (source, found, notes) = try start(from: tinyNetwork(), for: tinyNetwork(classes: 5))
    #expect(changed(source, found) == [Self.table])
    #expect(notes == ["\(Self.table): made anew for 5 classes and the null class; the model had 3"])
    let values = try #require(found[Self.table]).array
    #expect(values.count == 6 * 16)
    let deviation = (values.reduce(0) { $0 + $1 * $1 } / Float(values.count)).squareRoot()
    #expect(abs(deviation / 0.02 - 1) < 0.4, "N(0, 0.02²): \(deviation)")
    // Not the source's rows, reproducible, and another seed's differ.
    #expect(Array(values[0..<16]) != Array(try #require(source[Self.table]).array[0..<16]))
    #expect(try start(from: tinyNetwork(), for: tinyNetwork(classes: 5)).found[Self.table]?.array == values)
    #expect(try start(from: tinyNetwork(), for: tinyNetwork(classes: 5), seed: 2).found[Self.table]?.array != values)
  }

  /// Four classes without a null row have as many rows as three with one, but they mean something else.
  @Test("A label table of equal rows but other classes is made anew")
  func equalRowsOfOtherClassesAreRemade() throws {
    let (source, found, notes) = try start(from: tinyNetwork(), for: tinyNetwork(classes: 4, dropout: 0))
    #expect(changed(source, found) == [Self.table] && notes.count == 1)
  }

  @Test("A missing null row is added to the label table")
  func aMissingNullRowIsAdded() throws {
    let (source, found, notes) = try start(from: tinyNetwork(dropout: 0), for: tinyNetwork())
    let (old, new) = try (#require(source[Self.table]).array, #require(found[Self.table]).array)
    #expect(Array(new[0..<48]) == old && new.count == 64 && new[48...].contains { $0 != 0 })
    #expect(notes == ["\(Self.table): a new null row was added"])
  }

  @Test("Label tables are added to and left out of unconditional models")
  func fromAndToUnconditional() throws {
    let (_, conditional, notes) = try start(from: tinyNetwork(classes: 0), for: tinyNetwork())
    #expect(conditional[Self.table]?.count == 64 && notes.count == 1)
    let (_, unconditional, _) = try start(from: tinyNetwork(), for: tinyNetwork(classes: 0))
    #expect(unconditional[Self.table] == nil && unconditional["x_embedder.proj.bias"] != nil)
  }

  @Test("Another input size gets its own fixed positions")
  func anotherInputSizeHasItsPositions() throws {
    var larger = tinyNetwork()
    (larger.inputHeight, larger.inputWidth) = (8, 8)
    let (source, found, notes) = try start(from: tinyNetwork(), for: larger)
    #expect(changed(source, found) == ["pos_embed"] && notes == ["pos_embed: computed for the input size 8×8"])
    #expect(found["pos_embed"]?.array == Weights.initialized(larger, seed: 0).weights["pos_embed"]?.array)
  }

  /// They would be lost.
  @Test("Fixed positions that are not the computed ones are resampled for another input size")
  func ownPositionsAreResampled() throws {
    var larger = tinyNetwork()
    (larger.inputHeight, larger.inputWidth) = (8, 12)
    let origin = tinyNetwork()
    let (source, flat) = Weights.initialized(origin, seed: 3)
    let positions = try #require(source.table.parameter(named: "pos_embed"))
    var random = Philox(seed: 4)
    flat[positions.range].copy(from: random.normal(count: positions.count).span)
    let table = try #require(source["pos_embed"])
    let start = try StartingWeights(from: source, of: origin, for: larger, seed: 1, name: "source")
    #expect(start.notes == ["pos_embed: resampled for the input size 8×12"])
    let expected = MutableFloatSlice(zeros: 24 * 16)
    resamplePositions(output: expected.mutableSpan, table: table.span, from: (2, 3), to: (4, 6), width: 16)
    #expect(Weights(ParameterTable(larger), flat: start.flat)["pos_embed"]?.array == expected.array)
    #expect(try StartingWeights(from: source, of: origin, for: origin, seed: 1, name: "source").notes.isEmpty)
  }

  /// Learned positions follow the input size by interpolation, begin as the fixed ones, and are dropped for rotary ones.
  @Test("Learned positions are resampled, start as the fixed ones and are left out for rotary")
  func learnedPositions() throws {
    var small = tinyNetwork()
    small.position = .learned
    var large = small
    (large.inputHeight, large.inputWidth) = (8, 12)
    let (source, found, notes) = try start(from: small, for: large)
    #expect(notes == ["pos_embed: resampled for the input size 8×12"])
    let expected = MutableFloatSlice(zeros: 24 * 16)
    let table = try #require(source["pos_embed"])
    resamplePositions(output: expected.mutableSpan, table: table.span, from: (2, 3), to: (4, 6), width: 16)
    #expect(found["pos_embed"]?.array == expected.array)

    let fromFixed = try start(from: tinyNetwork(), for: small)
    #expect(changed(fromFixed.source, fromFixed.found).isEmpty && fromFixed.notes.isEmpty)
    var rotary = tinyNetwork()
    rotary.position = .rope
    #expect(try start(from: small, for: rotary).notes == ["pos_embed: left out, as positions are rotary"])
    #expect(try start(from: rotary, for: small).found["pos_embed"]?.array == fromFixed.found["pos_embed"]?.array)
  }

  @Test("Tables of another conditioning sequence are made anew")
  func anotherSequenceIsMadeAnew() throws {
    var text = tinyNetwork()
    text.sequence = .text(length: 5)
    let (_, found, notes) = try start(from: tinyNetwork(), for: text)
    #expect(
      notes == ["table", "pos_embed"].map { "text_embedder.\($0): made anew for another conditioning sequence" })
    let positions = try #require(found["text_embedder.pos_embed"]).array
    let size = (positions.reduce(0) { $0 + $1 * $1 } / Float(positions.count)).squareRoot()
    #expect(positions.count == 80 && abs(size / 0.02 - 1) < 0.4, "\(size)")
    #expect(try start(from: text, for: tinyNetwork()).notes.isEmpty)
    let same = try start(from: text, for: text)
    #expect(changed(same.source, same.found).isEmpty && same.notes.isEmpty)
  }

  @Test("Another kind of time frequencies is refused")
  func otherTimeFrequenciesAreRefused() throws {
    var other = tinyNetwork()
    other.timeFrequencies = .literal
    let refused = #expect(throws: DiTError.self) { try start(from: tinyNetwork(), for: other) }
    #expect(description(refused) == "base: time_frequencies: expected literal, found dit")
  }

  @Test("All tensors of other shapes are refused in one error")
  func otherShapesAreRefusedTogether() throws {
    var other = tinyNetwork(classes: 5)
    (other.depth, other.mlpRatio) = (3, 2)
    let error = #expect(throws: DiTError.self) { try start(from: tinyNetwork(), for: other) }
    let mismatch = try #require(error?.mismatch)
    #expect(mismatch.missing.count == 10 && mismatch.missing.allSatisfy { $0.hasPrefix("blocks.2.") })
    #expect(mismatch.unexpected.isEmpty && mismatch.misshaped.count == 6, "\(mismatch)")
    #expect(error?.description.hasPrefix("base: ") == true)
    var heads = tinyNetwork()
    heads.numHeads = 4
    let refused = #expect(throws: DiTError.self) { try start(from: tinyNetwork(), for: heads) }
    #expect(description(refused).contains("heads"))
  }

  @Test("Training starts at the given weights and leaves them unchanged")
  func trainingStartsThere() throws {
    let (source, _, _) = try start(from: tinyNetwork(), for: tinyNetwork())
    let flat = try StartingWeights(
      from: source, of: tinyNetwork(), for: tinyNetwork(classes: 7), seed: 0, name: "base"
    ).flat
    let trainer = try tinyTrainer(model: tinyModel(classes: 7), start: flat)
    #expect(firstDifference(trainer.weights, flat) == nil && firstDifference(trainer.average, flat) == nil)
    _ = try trainer.step()
    #expect(firstDifference(trainer.weights, flat) != nil, "and the given weights stay as they are")
  }

  @Test("A trainer that takes the weights from their source starts and steps as one that is given a copy")
  func weightsFromTheirSource() throws {
    let source = Weights.initialized(tinyNetwork(), seed: 77).weights
    let start = try StartingWeights(
      from: source, of: tinyNetwork(), for: tinyNetwork(classes: 7), seed: 0, name: "base")
    let before = source.slices.map(\.array)
    let taking = try Trainer(
      model: tinyModel(classes: 7), training: tinyTraining(), data: tinyData(), start: start,
      context: ComputeContext(threads: 1))
    let given = try tinyTrainer(model: tinyModel(classes: 7), start: start.flat)
    #expect(firstDifference(taking.weights, given.weights) == nil)
    #expect(firstDifference(taking.average, given.weights) == nil)
    #expect(try taking.step() == given.step())
    #expect(firstDifference(taking.weights, given.weights) == nil)
    #expect(source.slices.map(\.array) == before, "the source stays as it is")
  }
}
