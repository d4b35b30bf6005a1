import DiTTensor
import TestSupport
import Testing

/// Buffers, slices, the arena's layout and tensors.
@Suite("Buffers, slices, the arena's layout and tensors") struct MemoryTests {
  private static func address(_ slice: MutableFloatSlice) -> UInt {
    unsafe slice.span.withUnsafeBufferPointer { UInt(bitPattern: $0.baseAddress) }
  }

  /// Small ones, and one past the 4 MB from which huge pages are asked for.
  @Test(
    "A new slice holds zeros at an address that is a multiple of 64",
    arguments: [0, 1, 3, 17, 1023, 1 << 20, (1 << 20) + 5])
  func alignedZeros(_ count: Int) {
    let slice = MutableFloatSlice(zeros: count)
    #expect(slice.count == count && slice.buffer.count == count && slice.buffer.isMutable)
    #expect(Self.address(slice) % 64 == 0)
    #expect(bitDifference(slice.array, [Float](repeating: 0, count: count)) == nil)
  }

  /// Memory that was in use before comes back zeroed.
  @Test("Memory that was in use before comes back zeroed")
  func zeroedAgain() {
    for _ in 0..<20 {
      let slice = MutableFloatSlice(zeros: 500)
      #expect(slice.array.allSatisfy { $0 == 0 })
      slice.fill(7)
    }
  }

  @Test("A slice of a slice reads and writes the same memory")
  func slicesShareMemory() {
    let whole = MutableFloatSlice((0..<10).map(Float.init))
    let part = whole[3..<8]
    #expect(part.reading.offset == 3 && part.count == 5 && part.array == [3, 4, 5, 6, 7])
    #expect(Self.address(part) == Self.address(whole) + 12)
    part[1] = 40
    part[2..<4].fill(-1)
    var span = part[4..<5].mutableSpan
    span[0] = 70
    #expect(whole.array == [0, 1, 2, 3, 40, -1, -1, 70, 8, 9])
    #expect(part[1] == 40 && part.span[4] == 70)
    whole[0..<2].copy(from: whole[7..<9].span)
    #expect(whole.array == [70, 8, 2, 3, 40, -1, -1, 70, 8, 9])
    #expect(whole[10..<10].count == 0 && whole[10..<10].array == [])
  }

  /// An array copied into a slice is a copy.
  @Test("A slice made of an array is a copy of it, and so is the array made of a slice")
  func slicesOwnTheirElements() {
    var elements: [Float] = [1, 2, 3]
    let slice = MutableFloatSlice(elements)
    elements[0] = 9
    #expect(slice.array == [1, 2, 3])
    var array = slice.array
    array[1] = 9
    #expect(slice.array == [1, 2, 3])
  }

  /// Says when it goes, and holds the memory that a buffer views.
  @safe private final class Owner {
    let elements: UnsafeMutableBufferPointer<Float>
    let gone: () -> Void

    init(_ values: [Float], _ gone: @escaping () -> Void) {
      unsafe elements = .allocate(capacity: values.count)
      _ = unsafe elements.initialize(from: values)
      self.gone = gone
    }

    deinit {
      unsafe elements.deallocate()
      gone()
    }
  }

  @Test("A view keeps the owner of its memory alive, and lets it go with its last slice")
  func viewsKeepTheirOwner() {
    var isGone = false
    var view: FloatSlice?
    do {
      let owner = Owner([1, 2, 3]) { isGone = true }
      view = unsafe FloatSlice(Buffer(viewing: UnsafeBufferPointer(owner.elements), owner: owner))[1..<3]
    }
    #expect(!isGone)
    #expect(view?.array == [2, 3])
    #expect(view?.buffer.isMutable == false)
    view = nil
    #expect(isGone)
  }

  @Test("What is read through a slice is what was written through another name of its memory")
  func readingIsTheSameMemory() {
    let whole = MutableFloatSlice([1, 2, 3, 4])
    let reading = whole[1..<3].reading
    whole[2] = 30
    #expect(reading.array == [2, 30] && reading[1] == 30 && reading[1..<2].array == [30])
    #expect(FloatSlice.empty.isEmpty && MutableFloatSlice.empty.isEmpty && !whole.isEmpty)
  }

  /// Memory that no file stands behind keeps its values, ours and a viewed owner's.
  @Test("Releasing the pages of memory without a file behind it keeps the values")
  func pagesAreKept() {
    let values = (0..<20_000).map(Float.init)
    let own = MutableFloatSlice(values)
    own[3..<19_000].reading.releasePages()
    #expect(own.array == values)
    let owner = Owner(values) {}
    let view = unsafe FloatSlice(Buffer(viewing: UnsafeBufferPointer(owner.elements), owner: owner))
    view.releasePages()
    #expect(view.array == values)
  }

  #if os(Linux) || os(macOS)
    /// Each in a process of its own. The last one shows that what these do is all that ends them.
    @Test("Writing to a view, ranges out of bounds and shapes that do not fit end the process")
    func misuseTraps() async {
      await #expect(processExitsWith: .failure) {
        let owner = Owner([1, 2, 3]) {}
        let view = unsafe FloatSlice(Buffer(viewing: UnsafeBufferPointer(owner.elements), owner: owner))
        MutableFloatSlice(view.buffer).fill(0)
      }
      await #expect(processExitsWith: .failure) { _ = MutableFloatSlice(zeros: 5)[2..<6] }
      await #expect(processExitsWith: .failure) { _ = FloatSlice(Buffer(count: 5), offset: 6, count: 0) }
      await #expect(processExitsWith: .failure) { _ = FloatSlice(Buffer(count: 5), offset: 1, count: .max) }
      await #expect(processExitsWith: .failure) {
        MutableFloatSlice(zeros: 3).copy(from: FloatSlice([1, 2, 3, 4]))
      }
      await #expect(processExitsWith: .failure) { _ = Buffer(count: -1) }
      await #expect(processExitsWith: .failure) { _ = Tensor(shape: [2, 3], elements: [1, 2, 3, 4, 5]) }
      await #expect(processExitsWith: .failure) { _ = Tensor(shape: [-1, -1], elements: [1]) }
      await #expect(processExitsWith: .success) {
        let owner = Owner([1, 2, 3]) {}
        let view = unsafe FloatSlice(Buffer(viewing: UnsafeBufferPointer(owner.elements), owner: owner))
        let copy = MutableFloatSlice(zeros: 5)[2..<5]
        copy.copy(from: view.span)
        #expect(copy.array == [1, 2, 3])
        _ = FloatSlice(Buffer(count: 5), offset: 5, count: 0)
      }
    }
  #endif

  /// Each range on a cache line of its own, in order, without overlap; the total is what a buffer must hold.
  @Test("Each range of an arena has cache lines of its own, in order and without overlap")
  func arenaLayout() {
    var layout = ArenaLayout()
    let counts = [1, 16, 0, 17, 31, 64, 5]
    let ranges = counts.map { layout.reserve($0) }
    #expect(ranges.map(\.count) == counts)
    #expect(ranges.map(\.lowerBound) == [0, 16, 32, 32, 64, 96, 160])
    #expect(layout.count == 176)
    var again = ArenaLayout()
    #expect(counts.map { again.reserve($0) } == ranges)
    let arena = MutableFloatSlice(zeros: layout.count)
    for (i, range) in ranges.enumerated() { arena[range].fill(Float(i + 1)) }
    #expect(zip(ranges, 1...).allSatisfy { range, i in arena[range].array.allSatisfy { $0 == Float(i) } })
    #expect(ranges.allSatisfy { Self.address(arena[$0]) % 64 == 0 })
  }

  @Test("Tensors are equal when shape and elements are; an extent of 0 has no elements, rank 0 has one")
  func tensorEqualityAndCounts() {
    let tensor = Tensor(shape: [2, 3], elements: [1, 2, 3, 4, 5, 6])
    #expect(tensor.count == 6 && tensor.shape == [2, 3])
    #expect(tensor == Tensor(shape: [2, 3], elements: [1, 2, 3, 4, 5, 6]))
    #expect(tensor != Tensor(shape: [3, 2], elements: [1, 2, 3, 4, 5, 6]))
    #expect(Tensor(zeros: [3, 0, 5]).elements == [])
    #expect(Tensor(shape: [], elements: [4]).count == 1)
  }
}
