import DiTTensor
import Foundation
import Testing

@Suite("An arena's parts, and memory that is taken when it is written") struct ArenaTests {
  private static func address(_ slice: MutableFloatSlice) -> UInt {
    unsafe slice.span.withUnsafeBufferPointer { UInt(bitPattern: $0.baseAddress) }
  }

  private struct Parts {
    let first, second, shared, last: MutableFloatSlice

    /// `shared` lies over `second`.
    init(_ arena: inout Arena) {
      first = arena.reserve(5)
      var other = arena
      second = arena.reserve(20)
      shared = other.reserve(40)
      arena.skip(past: other)
      last = arena.reserve(3)
    }
  }

  @Test("A plan counts what its parts take, and hands out none")
  func aPlanCounts() {
    var plan = Arena()
    let parts = Parts(&plan)
    #expect(plan.count == 16 + 48 + 16)
    #expect([parts.first, parts.second, parts.shared, parts.last].allSatisfy { $0.count == 0 })
  }

  @Test(
    "Parts over memory have their sizes, do not overlap but where they are told to, and fill the buffer that was planned"
  )
  func partsOfMemory() {
    let parts = Arena.filled { Parts(&$0) }
    let all = [parts.first, parts.second, parts.shared, parts.last]
    #expect(all.map(\.count) == [5, 20, 40, 3] && all.map(\.reading.offset) == [0, 16, 16, 64])
    #expect(parts.first.buffer.count == 80)
    #expect(all.allSatisfy { Self.address($0) % 64 == 0 && $0.array.allSatisfy { $0 == 0 } })
    parts.shared.fill(2)
    #expect(
      parts.second.array.allSatisfy { $0 == 2 }
        && parts.first.array + parts.last.array == [Float](repeating: 0, count: 8))
  }

  #if os(Linux)
    private static func residentBytes() throws -> Int {
      let fields = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
      return try #require(Int(fields[1])) * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// 2 GB of zeros: other tests of this process take far less meanwhile.
    @Test("Large zeros take no memory until they are written")
    func untouchedZeros() throws {
      let (count, before) = (1 << 29, try Self.residentBytes())
      let zeros = MutableFloatSlice(zeros: count)
      #expect(zeros[0] == 0 && zeros[count / 2] == 0 && zeros[count - 1] == 0)
      #expect(try Self.residentBytes() - before < 1 << 30)
      zeros[count - 1] = 3
      #expect(zeros[count - 1] == 3 && zeros[count - 2] == 0)
    }
  #endif
}
