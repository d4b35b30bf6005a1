import DiTTensor
import TestSupport
import Testing

/// Matrices over memory: what the kernels take.
@Suite("Matrices over memory: extents, orders, views and what does not fit") struct OperandTests {
  private let memory = MutableFloatSlice((0..<24).map(Float.init))

  @Test("A matrix knows its extents, and that of bf16 lies in half the floats")
  func extents() {
    let m = MutableMatrix(memory, rows: 3, columns: 5, stride: 8)
    #expect(m.rows == 3 && m.columns == 5 && m.stride == 8 && m.format == .fp32 && m.reading.order == .rows)
    #expect(MutableMatrix(memory, rows: 4, columns: 6).stride == 6)
    #expect(MutableMatrix(memory, rows: 8, columns: 6, format: .bf16).rows == 8)
    #expect(Format.bf16.floats(holding: 5) == 3 && Format.fp32.floats(holding: 5) == 5)
    // The last row needs no gap behind it, and no rows need nothing.
    #expect(Matrix(memory.reading, rows: 3, columns: 4, stride: 10).rows == 3)
    #expect(Matrix(.empty, rows: 0, columns: 9).rows == 0)
    // Rows that are all the same.
    #expect(Matrix(memory.reading, rows: 1_000, columns: 24, stride: 0).rows == 1_000)
  }

  @Test("The transpose of a matrix is the same memory in columns, and the transpose of that the matrix")
  func transpose() {
    let m = Matrix(memory.reading, rows: 3, columns: 5, stride: 8)
    let t = m.transposed
    #expect(t.rows == 5 && t.columns == 3 && t.stride == 8 && t.order == .columns)
    #expect(t.transposed.rows == 3 && t.transposed.order == .rows)
  }

  @Test("The first rows, the elements and the memory for another format are views of the same memory")
  func views() {
    let memory = MutableFloatSlice((0..<24).map(Float.init))
    let m = MutableMatrix(memory, rows: 4, columns: 6)
    #expect(m.prefix(2).elements.array == memory.array.prefix(12).map { $0 })
    m.prefix(1).elements.fill(-1)
    #expect(memory[0] == -1 && memory[5] == -1 && memory[6] == 6)
    let narrow = m.reused(as: .bf16)
    #expect(narrow.format == .bf16 && narrow.rows == 4 && narrow.overlaps(m.reading))
  }

  @Test("Matrices overlap where they share memory, not where one begins behind the other")
  func overlaps() {
    let (first, second) = (memory[0..<12], memory[12..<24])
    let m = MutableMatrix(first, rows: 3, columns: 4)
    #expect(m.overlaps(m.reading) && m.overlaps(Matrix(memory[11..<20].reading, rows: 1, columns: 9)))
    #expect(!m.overlaps(Matrix(second.reading, rows: 3, columns: 4)))
    #expect(!m.overlaps(Matrix(FloatSlice((0..<12).map(Float.init)), rows: 3, columns: 4)))
  }

  #if os(Linux) || os(macOS)
    /// Each in a process of its own. The last one shows that what these do is all that ends them.
    @Test("Memory that is too small, gaps where there may be none and wider formats end the process")
    func misuseTraps() async {
      await #expect(processExitsWith: .failure) { _ = Matrix(FloatSlice([1, 2, 3]), rows: 2, columns: 2) }
      await #expect(processExitsWith: .failure) {
        _ = Matrix(FloatSlice([1, 2, 3, 4, 5]), rows: 2, columns: 2, stride: 4)
      }
      await #expect(processExitsWith: .failure) { _ = Matrix(FloatSlice([1, 2]), rows: 5, columns: 1, format: .bf16) }
      await #expect(processExitsWith: .failure) { _ = Matrix(.empty, rows: -1, columns: 2) }
      await #expect(processExitsWith: .failure) { _ = Matrix(FloatSlice([1, 2]), rows: 2, columns: 1).prefix(3) }
      await #expect(processExitsWith: .failure) {
        _ = Matrix(FloatSlice([1, 2, 3]), rows: 2, columns: 1, stride: 2).elements
      }
      await #expect(processExitsWith: .failure) {
        _ = MutableMatrix(MutableFloatSlice(zeros: 2), rows: 2, columns: 2, format: .bf16).reused(as: .fp32)
      }
      await #expect(processExitsWith: .success) {
        let memory = MutableFloatSlice(zeros: 6)
        _ = Matrix(memory.reading, rows: 2, columns: 2, stride: 4)
        _ = Matrix(memory.reading, rows: 3, columns: 4, format: .bf16)
        _ = MutableMatrix(memory, rows: 3, columns: 2).reused(as: .bf16).prefix(3)
        _ = Matrix(memory.reading, rows: 2, columns: 3).elements
      }
    }
  #endif
}
