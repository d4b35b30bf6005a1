import DiTTensor
import Testing

@Suite("Numbers that are not finite") struct FiniteTests {
  @Test("The first NaN or infinity is found wherever it stands, and nothing else is taken for one")
  func firstNotFinite() {
    let whole = [Float](repeating: -.greatestFiniteMagnitude, count: 9000)
    #expect(whole.span.firstNotFinite == nil && [Float]().span.firstNotFinite == nil)
    let finite: [Float] = [0, -0.0, .leastNonzeroMagnitude, -.leastNormalMagnitude, .greatestFiniteMagnitude, 1]
    #expect(finite.span.firstNotFinite == nil)
    for bad in [Float.nan, -.nan, .signalingNaN, .infinity, -.infinity, Float(bitPattern: 0x7F80_0001)] {
      for place in [0, 1, 15, 4095, 4096, 4097, 8191, 8999] {
        var numbers = whole
        numbers[place] = bad
        numbers[8999] = .infinity
        #expect(numbers.span.firstNotFinite == place, "\(bad) at \(place)")
      }
    }
  }

  @Test("A tensor's bad number is said with its image, an overflow with its place")
  func words() {
    var tensor = Tensor(zeros: [3, 2, 2])
    #expect(tensor.notFinite == nil)
    tensor.elements[5] = -.infinity
    #expect(tensor.notFinite == "-inf in image 1")
    let error = DiTError(overflow: "samples", image: 1, found: .nan, place: "under guidance 2").moved(by: 4)
      .placed("at step 1 of 2")
    #expect(
      error.description
        == "samples: expected finite numbers, found nan in image 5 at step 1 of 2 under guidance 2: overflow")
    #expect(error == DiTError(overflow: "samples", image: 5, found: .nan, place: "at step 1 of 2 under guidance 2"))
  }
}
