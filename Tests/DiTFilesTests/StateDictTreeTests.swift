import DiTFiles
import DiTTensor
import Testing

/// Which tensors of a file are the network's, and by what names. Whole files of programs that train are read by
/// WrappedStateDictTests.
@Suite("State dicts inside a file, told by their names") struct StateDictTreeTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// A file with scalars 0, 1, … of these names.
  private func file(_ names: [String], _ choice: TreeChoice = .averagePreferred) throws -> StateDictFile {
    let tensors = names.enumerated().map { TensorSource($1, Tensor(shape: [1], elements: [Float($0)]), as: .f32) }
    try SafetensorsWriter.write(tensors, to: directory("m.safetensors"))
    return try StateDictFile(contentsOf: directory("m.safetensors"), tree: choice)
  }

  private func values(_ file: StateDictFile) throws -> [String: Float] {
    try Dictionary(uniqueKeysWithValues: file.store.keys.map { ($0.name, try file.store.slice($0.name)[0]) })
  }

  @Test("An average is preferred wherever it stands, and the trained weights can be asked for")
  func averages() throws {
    for (trained, average) in [("model.", "net.ema."), ("model.", "ema."), ("module.", "state_dict.ema_model.")] {
      let names = ["\(trained)a", "\(trained)b.c", "\(average)a", "\(average)b.c"]
      let found = try file(names)
      #expect(try found.isAverage && values(found) == ["a": 2, "b.c": 3], "\(trained) and \(average)")
      #expect(found.tree.joined(separator: ".") + "." == average)
      let other = try file(names, .trained)
      #expect(try !other.isAverage && values(other) == ["a": 0, "b.c": 1], "\(trained) and \(average)")
    }
  }

  @Test("Counters beside the weights do not hide what wraps these")
  func counters() throws {
    let found = try file(["module.a", "n_averaged", "module.b"])
    #expect(try found.tree == ["module"] && values(found) == ["a": 0, "b": 2])
  }

  @Test("Words inside names are taken out where every name stays one of its own")
  func innerWords() throws {
    let found = try file(["a._orig_mod.w", "a._orig_mod.b", "c._checkpoint_wrapped_module.w"])
    #expect(try values(found) == ["a.w": 0, "a.b": 1, "c.w": 2])
    let alike = try file(["a._orig_mod.w", "a.w"])
    #expect(try values(alike) == ["a._orig_mod.w": 0, "a.w": 1])
    let empty = try file(["_orig_mod", "a"])
    #expect(try values(empty) == ["_orig_mod": 0, "a": 1])
  }
}
