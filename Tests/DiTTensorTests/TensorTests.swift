import DiTTensor
import Testing

@Suite("Tensors: parts, elements, shapes, what lies between") struct TensorTests {
  private let tensor = Tensor(shape: [2, 3, 4], elements: (0..<24).map(Float.init))

  @Test("Indices name parts, and an index for each extent an element")
  func subscripts() {
    #expect(tensor[1] == Tensor(shape: [3, 4], elements: (12..<24).map(Float.init)))
    #expect(tensor[1, 2] == Tensor(shape: [4], elements: [20, 21, 22, 23]))
    #expect(tensor[1, 2, 3] == Tensor(shape: [], elements: [23]) && tensor[at: 1, 2, 3] == 23 && tensor[] == tensor)
    var changed = tensor
    changed[at: 0, 1, 2] = -1
    changed[1, 0] = Tensor(shape: [4], elements: [9, 8, 7, 6])
    #expect(changed.elements[6] == -1 && Array(changed.elements[12..<16]) == [9, 8, 7, 6])
    #expect(changed.elements.indices.count { changed.elements[$0] != tensor.elements[$0] } == 5)
    #expect(tensor.reshaped(6, 4).shape == [6, 4] && tensor.reshaped(6, 4).elements == tensor.elements)
  }

  #if os(Linux) || os(macOS)
    @Test("Indices and shapes that do not fit end the process")
    func misuse() async {
      await #expect(processExitsWith: .failure) { _ = Tensor(zeros: [2, 3])[2] }
      await #expect(processExitsWith: .failure) { _ = Tensor(zeros: [2, 3])[-1] }
      await #expect(processExitsWith: .failure) { _ = Tensor(zeros: [2, 3])[0, 0, 0] }
      await #expect(processExitsWith: .failure) { _ = Tensor(zeros: [2, 3])[at: 1] }
      await #expect(processExitsWith: .failure) {
        var tensor = Tensor(zeros: [2, 3])
        tensor[0] = Tensor(zeros: [2])
      }
      await #expect(processExitsWith: .failure) { _ = Tensor(zeros: [2, 3]).reshaped(5) }
    }
  #endif

  @Test("The noise of a seed is that of Philox's streams, one for each image")
  func noise() {
    let noise = Tensor(noise: [3, 2, 5], seed: 7)
    for n in 0..<3 {
      var random = Philox(seed: 7, stream: UInt64(n))
      #expect(noise[n].elements == random.normal(count: 10))
    }
  }

  @Test("Between two noises is noise as large as they are, along the great circle")
  func interpolation() {
    var random = Philox(seed: 1)
    let (a, b) = (
      Tensor(shape: [2, 500], elements: random.normal(count: 1000)),
      Tensor(shape: [2, 500], elements: random.normal(count: 1000))
    )
    #expect(a.interpolated(to: b, 0) == a && a.interpolated(to: b, 1) == b)
    func length(_ t: Tensor) -> Float { t.elements.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    let half = a.interpolated(to: b, 0.5)
    for n in 0..<2 {
      let (mean, found) = ((length(a[n]) + length(b[n])) / 2, length(half[n]))
      #expect(abs(found / mean - 1) < 0.01, "a straight line would be 0.7 of it")
      #expect(half[n] == a.range(n..<n + 1).interpolated(to: b.range(n..<n + 1), 0.5)[0], "each by itself")
    }
    // Right angles: (cos, sin) of the angle.
    let (x, y) = (Tensor(shape: [1, 2], elements: [3, 0]), Tensor(shape: [1, 2], elements: [0, 3]))
    let third = x.interpolated(to: y, 1.0 / 3)
    #expect(abs(third.elements[0] - 3 * 0.8660254) < 1e-6 && abs(third.elements[1] - 1.5) < 1e-6)
    #expect(x.interpolated(to: x, 0.3) == x)
  }
}
