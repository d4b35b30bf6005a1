import DiTKernels
import DiTTensor

/// The operands of one kernel call. Each lies between guards, at an address that is no multiple of a vector, so that
/// ``damage`` finds what was written where it must not be; guards are NaN, so that what was read there shows as well.
public final class Operands {
  private struct Operand {
    let name: String
    let format: Format
    let rows, columns, stride: Int
    let all: FloatSlice
    let guardCount: Int
    /// The memory of an operand that is only read.
    let fixed: [Float]?
    let isResult: Bool

    var inner: FloatSlice { all[guardCount..<all.count - guardCount] }
    var elements: Int { rows == 0 ? 0 : (rows - 1) * stride + columns }
    /// The elements, widened, the gaps between rows among them.
    var spread: [Float] { format == .bf16 ? inner.array.halves(elements) : inner.array }
  }

  private static let mark = Float(bitPattern: 0x7FC0_DEAD)
  private let inputs: [String: [Float]]
  private let guardCount: Int
  private var operands: [Operand] = []

  /// - Parameter isGuarded: false: operands begin on cache lines, their rows follow each other, as a network lays them out.
  public init(_ inputs: [String: [Float]] = [:], isGuarded: Bool = true) {
    self.inputs = inputs
    guardCount = isGuarded ? 17 : 0
  }

  private var isGuarded: Bool { guardCount > 0 }

  // MARK: Making operands

  /// A matrix that the kernel only reads: the input of that name, or `values`. Rows `stride` apart have NaN between them.
  public func matrix(
    _ name: String, _ values: [Float]? = nil, rows: Int, columns: Int, stride: Int? = nil, format: Format = .fp32
  ) -> Matrix {
    let stride = isGuarded ? stride : nil
    let memory = add(name, values ?? input(name), rows, columns, stride, format, isFixed: true)
    return Matrix(memory.reading, rows: rows, columns: columns, stride: stride, format: format)
  }

  /// A matrix that the kernel adds to or changes, and that begins as the input `start`, by default that of its name.
  public func state(
    _ name: String, from start: String? = nil, rows: Int, columns: Int, stride: Int? = nil, format: Format = .fp32
  ) -> MutableMatrix {
    let stride = isGuarded ? stride : nil
    let memory = add(name, input(start ?? name), rows, columns, stride, format, isResult: true)
    return MutableMatrix(memory, rows: rows, columns: columns, stride: stride, format: format)
  }

  /// A matrix that the kernel overwrites; it begins as NaN.
  public func output(
    _ name: String, rows: Int, columns: Int, stride: Int? = nil, format: Format = .fp32
  ) -> MutableMatrix {
    let stride = isGuarded ? stride : nil
    let values = [Float](repeating: .nan, count: rows * columns)
    let memory = add(name, values, rows, columns, stride, format, isResult: true)
    return MutableMatrix(memory, rows: rows, columns: columns, stride: stride, format: format)
  }

  /// A row that the kernel only reads.
  public func vector(_ name: String, _ values: [Float]? = nil) -> FloatSlice {
    let values = values ?? input(name)
    return add(name, values, 1, values.count, nil, .fp32, isFixed: true).reading
  }

  /// A row that the kernel adds to or changes.
  public func state(_ name: String) -> MutableFloatSlice {
    add(name, input(name), 1, input(name).count, nil, .fp32, isResult: true)
  }

  /// A row that the kernel overwrites.
  public func output(_ name: String, _ count: Int) -> MutableFloatSlice {
    add(name, [Float](repeating: .nan, count: count), 1, count, nil, .fp32, isResult: true)
  }

  /// Memory that is no result.
  public func scratch(_ count: Int) -> MutableFloatSlice {
    add("scratch", [Float](repeating: .nan, count: count), 1, count, nil, .fp32)
  }

  /// A matrix that is written and is no result.
  func scratch(like m: MutableMatrix) -> MutableMatrix {
    let values = [Float](repeating: .nan, count: m.rows * m.columns)
    return MutableMatrix(
      add("scratch", values, m.rows, m.columns, m.stride, m.format), rows: m.rows, columns: m.columns,
      stride: m.stride, format: m.format)
  }

  /// The input of that name.
  public func input(_ name: String) -> [Float] {
    guard let values = inputs[name] else { preconditionFailure("no input \(name)") }
    return values
  }

  private func add(
    _ name: String, _ values: [Float], _ rows: Int, _ columns: Int, _ stride: Int?, _ format: Format,
    isFixed: Bool = false, isResult: Bool = false
  ) -> MutableFloatSlice {
    precondition(values.count == rows * columns, "\(name): \(values.count) values for (\(rows), \(columns))")
    let stride = stride ?? columns
    let stored = (stride == columns ? values : scatter(values, columns, stride)).stored(format)
    let all = MutableFloatSlice(uninitialized: stored.count + 2 * guardCount)
    all[0..<guardCount].fill(Self.mark)
    let inner = all[guardCount..<guardCount + stored.count]
    inner.copy(from: stored.span)
    all[guardCount + stored.count..<all.count].fill(Self.mark)
    operands.append(
      Operand(
        name: name, format: format, rows: rows, columns: columns, stride: stride, all: all.reading,
        guardCount: guardCount, fixed: isFixed ? stored : nil, isResult: isResult))
    return inner
  }

  /// Rows `stride` apart.
  private func scatter(_ values: [Float], _ columns: Int, _ stride: Int) -> [Float] {
    guard !values.isEmpty else { return [] }
    var scattered = [Float](repeating: .nan, count: (values.count / columns - 1) * stride + columns)
    for i in values.indices { scattered[i / columns * stride + i % columns] = values[i] }
    return scattered
  }

  // MARK: Looking at them

  /// What the kernel wrote, widened, without gaps, in the order in which the operands were made.
  public var results: [KernelRun.Result] {
    operands.filter(\.isResult).map { operand in
      var values = operand.spread
      if operand.stride != operand.columns {
        values = values.indices.filter { $0 % operand.stride < operand.columns }.map { values[$0] }
      }
      return KernelRun.Result(name: operand.name, format: operand.format, values: values)
    }
  }

  /// The first operand that has writing outside it, or that was written although it is an input.
  public var damage: String? {
    for operand in operands {
      let (all, inner) = (operand.all, operand.inner)
      let guards = all[0..<guardCount].array + all[all.count - guardCount..<all.count].array
      if let i = guards.firstIndex(where: { $0.bitPattern != Self.mark.bitPattern }) {
        return "\(operand.name) was written \(i < guardCount ? "before" : "after") its \(inner.count) elements"
      }
      if operand.format == .bf16, operand.elements % 2 == 1, inner[inner.count - 1].bitPattern >> 16 != 0x7FC0 {
        return "\(operand.name) was written behind its last bf16"
      }
      if let fixed = operand.fixed, let difference = bitDifference(inner.array, fixed) {
        return "\(operand.name), an input, was changed \(difference)"
      }
      if operand.isResult, operand.stride != operand.columns {
        let values = operand.spread
        if values.indices.contains(where: { $0 % operand.stride >= operand.columns && !values[$0].isNaN }) {
          return "\(operand.name) was written between its rows"
        }
      }
    }
    return nil
  }
}

extension [Float] {
  /// As an operand of a format holds them.
  public func rounded(to format: Format) -> [Float] { format == .bf16 ? roundedToBF16 : self }

  /// As the memory of an operand of a format.
  public func stored(_ format: Format) -> [Float] { format == .bf16 ? asHalves : self }
}

extension Format {
  public static let all = [Format.fp32, .bf16]
}
