import DiTTensor
import Testing

@Suite("Parts of a tensor's outermost extent") struct TensorPartTests {
  private let tensor = Tensor(shape: [4, 2, 3], elements: (0..<24).map(Float.init))

  @Test("range takes whole entries of the outermost extent, in order")
  func range() {
    let part = tensor.range(1..<3)
    #expect(part == Tensor(shape: [2, 2, 3], elements: (6..<18).map(Float.init)))
    #expect(tensor.range(0..<4) == tensor)
    #expect(tensor.range(4..<4) == Tensor(shape: [0, 2, 3], elements: []))
  }

  @Test("prefix takes the first entries, and of a vector single elements")
  func prefix() {
    #expect(tensor.prefix(1) == Tensor(shape: [1, 2, 3], elements: (0..<6).map(Float.init)))
    #expect(tensor.prefix(0).shape == [0, 2, 3])
    #expect(Tensor(shape: [3], elements: [5, 6, 7]).prefix(2) == Tensor(shape: [2], elements: [5, 6]))
  }
}
