import DiTTensor
import Testing

@Suite("Tensors that a file keeps apart") struct TensorPartsTests {
  private let first = FloatSlice([1, 2, 3])
  private let second = FloatSlice([4, 5])

  @Test("Parts are put together in their order, and are one memory as long as it is held")
  func heldOnce() {
    let parts = TensorParts(joining: [first, second])
    #expect(parts.isMade && parts.count == 5)
    let (one, two) = (parts.slice, parts.slice)
    #expect(one.array == [1, 2, 3, 4, 5] && one.buffer === two.buffer)
    parts.releasePages()
    #expect(one.array == [1, 2, 3, 4, 5])
  }

  @Test("What is not finite is found in whatever part, by its place among all")
  func notFinite() throws {
    #expect(TensorParts(joining: [first, second]).firstNotFinite == nil)
    let found = try #require(TensorParts(joining: [first, FloatSlice([4, -.infinity])]).firstNotFinite)
    #expect(found == (4, -.infinity))
  }

  @Test("What nobody holds is let go, and put together again when it is asked for")
  func letGo() {
    let parts = TensorParts(joining: [first, second])
    weak var buffer: Buffer?
    do {
      let slice = parts.slice
      buffer = slice.buffer
      #expect(buffer != nil && slice.count == 5)
    }
    #expect(buffer == nil)
    #expect(parts.slice.array == [1, 2, 3, 4, 5])
  }

  @Test("A single part is the tensor itself")
  func single() {
    for parts in [TensorParts(first), TensorParts(joining: [first])] {
      #expect(!parts.isMade && parts.slice.buffer === first.buffer && parts.count == 3)
    }
  }
}
