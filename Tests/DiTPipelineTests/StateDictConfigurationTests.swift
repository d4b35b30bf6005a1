import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor
import Foundation
import Testing

/// What a state dict's shapes do not tell: said by the checkpoint, by the user, or assumed and noted.
@Suite("Configurations of state dicts") struct StateDictConfigurationTests {
  private let directory: TemporaryDirectory
  private let network = URL(filePath: networkFixture("")).deletingLastPathComponent()
    .appending(path: "wrapped/average-ema.pt").path(percentEncoded: false)

  init() throws { directory = try TemporaryDirectory() }

  private func write(rows: Int) throws -> String {
    var network = smallNetwork
    (network.inputWidth, network.numClasses, network.classDropoutProb) = (6, rows, 0)
    try randomWeights(network).write(to: directory("m.safetensors"))
    return directory("m.safetensors")
  }

  private func keys(_ text: String) throws -> StateDictHints {
    StateDictHints(keys: try ModelKeys(contentsOf: directory.write(text, to: "c.json")))
  }

  private func classes(_ path: String, _ hints: StateDictHints) throws -> (Int, Bool, [String]) {
    let model = try ModelReference(path).load(hints: hints)
    return (model.configuration.network.numClasses, model.configuration.network.hasNullClass, model.notes)
  }

  @Test("Where nothing tells, the last row is the null class, and a note says so")
  func convention() throws {
    let path = try write(rows: 10)
    let (count, hasNull, notes) = try classes(path, StateDictHints(heads: 3))
    #expect(count == 9 && hasNull && notes.count == 1)
    #expect(notes.first?.contains("10 rows are read as 9 classes and the null class") == true)
    #expect(notes.first?.hasPrefix(path) == true && notes.first?.contains("--config") == true)
    #expect(try DiT(contentsOf: path, heads: 3).notes == notes)
    #expect(try classes(write(rows: 1001), StateDictHints(heads: 3)).2.isEmpty, "the published table")
  }

  @Test("The checkpoint's own arguments tell the number of classes")
  func argumentsTell() throws {
    let (count, hasNull, notes) = try classes(network, StateDictHints(heads: 2))
    #expect(count == 3 && hasNull && notes.isEmpty)
    let contradicting = try keys(#"{"num_classes": 4, "num_heads": 2}"#)
    let error = #expect(throws: DiTError.self) { try classes(network, contradicting) }
    #expect(error?.key == "num_classes" && error?.problem.contains("expected 3, as the arguments") == true)
  }

  @Test("As many classes in the checkpoint's arguments as the label table has rows leave no row for a null class")
  func argumentsTellOfNoNullClass() throws {
    var bytes = try Data(contentsOf: URL(filePath: network))
    let key = try #require(bytes.range(of: Data("num_classes".utf8)))
    let number = try #require(bytes.range(of: Data([0x4B, 3]), in: key.upperBound..<bytes.endIndex))  // BININT1 3
    bytes[number.lowerBound + 1] = 4
    try bytes.write(to: URL(filePath: directory("m.pt")))
    let (count, hasNull, notes) = try classes(directory("m.pt"), StateDictHints(heads: 2))
    #expect(count == 4 && !hasNull && notes.isEmpty, "\(count), \(hasNull), \(notes)")
  }

  @Test("Stated keys tell the number of classes")
  func keysTell() throws {
    let path = try write(rows: 10)
    for text in [#"{"num_classes": 10, "num_heads": 3}"#, #"{"class_dropout_prob": 0, "num_heads": 3}"#] {
      let (count, hasNull, notes) = try classes(path, keys(text))
      #expect(count == 10 && !hasNull && notes.isEmpty)
    }
    let (count, hasNull, _) = try classes(path, keys(#"{"model": {"num_classes": 9, "num_heads": 3}, "training": {}}"#))
    #expect(count == 9 && hasNull)
    for (text, key) in [
      (#"{"num_classes": 8, "num_heads": 3}"#, "num_classes"), (#"{"hidden_size": 32, "num_heads": 2}"#, "hidden_size"),
      (#"{"depth": 3, "num_heads": 3}"#, "depth"), (#"{"mlp_ratio": 3, "num_heads": 3}"#, "mlp_ratio"),
      (#"{"patch_size": 1, "num_heads": 3}"#, "patch_size"),
      (#"{"learn_sigma": false, "num_heads": 3}"#, "learn_sigma"),
      (#"{"hedas": 3, "num_heads": 3}"#, "hedas"), (#"{"model": {"num_heads": 5}}"#, "model.num_heads"),
      (#"{"model": {}, "modle": {}}"#, "modle"),
    ] {
      let error = #expect(throws: DiTError.self, "\(text)") { try classes(path, keys(text)) }
      #expect(error?.key == key && error?.file == directory("c.json"), "\(error.debugDescription)")
    }
  }

  @Test("Stated keys are for state dicts only, and heads must agree with --heads")
  func otherModels() throws {
    let hints = try keys(#"{"num_heads": 3}"#)
    let error = #expect(throws: DiTError.self) { try ModelReference(networkFixture("digits")).load(hints: hints) }
    #expect(error?.file == directory("c.json") && error?.name == "model")
    let path = try write(rows: 10)
    var both = hints
    both.heads = 4
    #expect(throws: DiTError.self) { try ModelReference(path).load(hints: both) }
    both.heads = 3
    #expect(try ModelReference(path).load(hints: both).configuration.network.numHeads == 3)
  }

  @Test("A training configuration serves a state dict with what fits it")
  func fittingKeys() throws {
    let path = try write(rows: 10)
    var hints = try keys(
      #"{"model": {"num_classes": 5, "num_heads": 3, "depth": 7, "position": "rope", "input_size": 64, "text": {"length": 4}}}"#
    )
    hints.keysMayNotFit = true
    let configuration = try ModelReference(path).load(hints: hints).configuration.network
    #expect(configuration.numHeads == 3 && configuration.numClasses == 9 && configuration.depth == 2)
    #expect(configuration.position == .sincos && configuration.inputWidth == 6 && configuration.sequence == nil)
    #expect(throws: Never.self) { try ModelReference(networkFixture("digits")).load(hints: hints) }
  }
}
