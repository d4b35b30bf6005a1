import DiTFiles
import Testing

/// Checkpoints {"model": weights, "opt": {"state": …, "param_groups": …}} made byte by byte: their tensors are pairs of the
/// floats 1, 2, 3, 4.
@Suite("The state of torch's Adam") struct TorchAdamTests {
  private static func list(_ items: [[UInt8]]) -> [UInt8] { [0x5D, 0x28] + items.joined() + [0x65] }

  private static func numbered(_ items: [(Int, [UInt8])]) -> [UInt8] {
    [0x7D, 0x28] + items.flatMap { Pickle.integer($0.0) + $0.1 } + [0x75]
  }

  /// Two of the four floats, from `offset` on.
  private static func pair(_ offset: Int, _ shape: [Int] = [2]) -> [UInt8] {
    let strides = shape.count == 1 ? [1] : [shape[1], 1]
    return Pickle.tensor(offset: Pickle.integer(offset), shape: shape, strides: strides)
  }

  /// A parameter's state: its first moment is 1, 2, its second 3, 4.
  private static func state(_ shape: [Int] = [2], steps: Int = 5) -> [UInt8] {
    // The second stands first: keys have names, not places.
    Pickle.dictionary([
      ("exp_avg_sq", pair(2, shape)), ("step", Pickle.integer(steps)), ("exp_avg", pair(0, shape)),
    ])
  }

  private static func read(
    weights: [(String, [Int])], states: [(Int, [UInt8])], parameters: [Int]
  ) throws -> TorchAdam.Reading {
    let optimizer = Pickle.dictionary([
      ("state", numbered(states)),
      ("param_groups", list([Pickle.dictionary([("params", list(parameters.map(Pickle.integer)))])])),
    ])
    let model = Pickle.dictionary(weights.map { ($0.0, pair(0, $0.1)) })
    let file = torchArchive(Pickle.whole(Pickle.dictionary([("model", model), ("opt", optimizer)])))
    return try TorchAdam.read(bytes: file.bytes, path: "a.pt")
  }

  private static func adam(_ reading: TorchAdam.Reading) -> TorchAdam? {
    if case .state(let adam) = reading { adam } else { nil }
  }

  private static func reason(_ reading: TorchAdam.Reading) -> String? {
    if case .unknown(let reason) = reading { reason } else { nil }
  }

  @Test("Moments are known by their names, and belong to the tensor of their parameter's number")
  func moments() throws {
    let reading = try Self.read(
      weights: [("a", [1, 2]), ("b", [2])], states: [(1, Self.state()), (0, Self.state([1, 2]))], parameters: [0, 1])
    let adam = try #require(Self.adam(reading))
    #expect(adam.steps == 5 && adam.names == ["a", "b"])
    #expect(adam.has("a", shape: [1, 2]) && adam.has("b", shape: [2]) && !adam.has("b", shape: [1, 2]))
    let (first, second) = try adam.moments("b")
    #expect(first.array == [1, 2] && second.array == [3, 4])
  }

  @Test("Parameters that are not numbered in order have no known tensors", arguments: [[1, 0], [0, 2], [1, 2]])
  func numbers(_ parameters: [Int]) throws {
    let reading = try Self.read(
      weights: [("a", [2]), ("b", [2])], states: [(0, Self.state()), (1, Self.state()), (2, Self.state())],
      parameters: parameters)
    #expect(Self.reason(reading)?.contains("their order is not known") == true)
  }

  @Test("The position table that is not trained has no number, wherever it stands")
  func frozenPositions() throws {
    for weights in [["a", "pos_embed", "b"], ["pos_embed", "a", "b"], ["a", "b", "pos_embed"]] {
      let reading = try Self.read(
        weights: weights.map { ($0, [2]) }, states: [(0, Self.state()), (1, Self.state())], parameters: [0, 1])
      #expect(Self.adam(reading)?.names == ["a", "b"], "\(weights)")
    }
    let other = try Self.read(
      weights: [("a", [2]), ("b", [2])], states: [(0, Self.state())], parameters: [0])
    #expect(Self.reason(other)?.contains("1 parameters for 2 tensors") == true)
  }

  @Test("A moment of another shape than its tensor's says that the order is another")
  func shapes() throws {
    let reading = try Self.read(
      weights: [("a", [1, 2]), ("b", [2])], states: [(0, Self.state()), (1, Self.state([1, 2]))], parameters: [0, 1])
    #expect(Self.reason(reading)?.contains("moment 0 has the shape") == true)
    let steps = try Self.read(
      weights: [("a", [2]), ("b", [2])], states: [(0, Self.state()), (1, Self.state(steps: 6))], parameters: [0, 1])
    #expect(Self.reason(steps)?.contains("different numbers of steps") == true)
  }
}
