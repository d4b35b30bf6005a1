import DiTDistributed
import DiTTensor
import TestSupport
import Testing

@Suite("Ranks that are threads")
struct CommunicatorTests {
  @Test("Parts go where they belong, texts of any length come back in order", arguments: [1, 2, 3, 4])
  func calls(size: Int) throws {
    let found = try LocalGroup(size).run { group in
      let rank = group.rank
      let source = MutableFloatSlice(zeros: 5 * size)
      var span = source.mutableSpan
      for i in 0..<5 * size { span[i] = Float(100 * rank + i) }
      let target = MutableFloatSlice(zeros: 5 * size)
      let parts = (0..<size).map { 5 * $0..<5 * ($0 + 1) }
      try group.exchange(source.reading, parts, into: target, parts)
      let buffer = MutableFloatSlice(zeros: 2 * size)
      var own = buffer[2 * rank..<2 * rank + 2].mutableSpan
      (own[0], own[1]) = (Float(rank), -Float(rank))
      try group.gather(buffer, (0..<size).map { 2 * $0..<2 * $0 + 2 })
      let texts = try group.gather(String(repeating: "ä", count: rank))
      let numbers = try group.gather([Double(rank), .pi])
      let first = try group.broadcast(rank == 0 ? [7, 8, 9] : [])
      try group.barrier()
      return (target.reading.array, buffer.reading.array, texts, numbers, first)
    }
    for (rank, (target, buffer, texts, numbers, first)) in found.enumerated() {
      let expected = (0..<size).flatMap { other in (0..<5).map { Float(100 * other + 5 * rank + $0) } }
      #expect(target == expected)
      #expect(buffer == (0..<size).flatMap { [Float($0), -Float($0)] })
      #expect(texts == (0..<size).map { String(repeating: "ä", count: $0) })
      #expect(numbers == (0..<size).map { [Double($0), .pi] } && first == [7, 8, 9])
    }
  }

  @Test("A rank that fails ends the others' waiting")
  func failures() {
    struct Lost: Error {}
    #expect(throws: Lost.self) {
      try LocalGroup(3).run { group in
        if group.rank == 0 { throw Lost() }
        try group.barrier()
      }
    }
  }
}
