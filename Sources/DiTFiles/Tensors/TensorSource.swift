import DiTTensor

/// A tensor to be written to a file: what it is called, how it is stored, and where its elements come from.
public struct TensorSource {
  /// Fills a chunk with the elements from `offset` on, in row-major order.
  public typealias Fill<Number> = (_ offset: Int, _ chunk: inout MutableSpan<Number>) throws -> Void

  enum Contents {
    case floats(Fill<Float>)
    case doubles(Fill<Double>)
    case integers(Fill<Int>)
  }

  /// The name.
  public let name: String
  /// The type of the elements in the file.
  public let dtype: Dtype
  /// The extents, outermost first; `[]` for a scalar.
  public let shape: [Int]
  /// The bytes in the file.
  public let byteCount: Int
  let elements: Contents

  /// Real numbers that `fill` supplies chunk by chunk, stored as F32, or rounded to the nearest BF16 or F16 (ties to
  /// even; too large for F16 becomes infinite).
  public init(_ name: String, shape: [Int], as dtype: Dtype = .f32, floats fill: @escaping Fill<Float>) {
    precondition([.f32, .bf16, .f16].contains(dtype), "\(name): real numbers are written as F32, BF16 or F16")
    self.init(name, shape, dtype, .floats(fill))
  }

  /// Whole numbers that `fill` supplies chunk by chunk, stored as I64, I32, U8 or I8.
  public init(_ name: String, shape: [Int], as dtype: Dtype = .i64, integers fill: @escaping Fill<Int>) {
    precondition(
      dtype.isReadableInteger || dtype == .i8, "\(name): whole numbers are written as I64, I32, U8 or I8")
    self.init(name, shape, dtype, .integers(fill))
  }

  /// `tensor`, stored as F32, BF16 or F16.
  public init(_ name: String, _ tensor: Tensor, as dtype: Dtype = .f32) {
    self.init(name, shape: tensor.shape, as: dtype) { offset, chunk in
      for i in chunk.indices { chunk[i] = tensor.elements[offset + i] }
    }
  }

  /// The elements of `slice`, which must not be written meanwhile, stored as F32, BF16 or F16.
  public init(_ name: String, _ slice: FloatSlice, shape: [Int], as dtype: Dtype = .f32) {
    self.init(name, shape: shape, as: dtype) { offset, chunk in
      let source = slice[offset..<offset + chunk.count].span
      for i in chunk.indices { chunk[i] = source[i] }
    }
    requireCount(slice.count)
  }

  /// `values`, stored as F64.
  public init(_ name: String, shape: [Int], doubles values: [Double]) {
    self.init(
      name, shape, .f64,
      .doubles { offset, chunk in
        for i in chunk.indices { chunk[i] = values[offset + i] }
      })
    requireCount(values.count)
  }

  /// `values`, stored as I64, I32 or U8.
  public init(_ name: String, shape: [Int], integers values: [Int], as dtype: Dtype = .i64) {
    self.init(name, shape: shape, as: dtype) { (offset: Int, chunk: inout MutableSpan<Int>) in
      for i in chunk.indices { chunk[i] = values[offset + i] }
    }
    requireCount(values.count)
  }

  /// `bytes`, stored as U8.
  public init(_ name: String, shape: [Int], bytes: [UInt8]) {
    self.init(name, shape: shape, as: .u8) { (offset: Int, chunk: inout MutableSpan<Int>) in
      for i in chunk.indices { chunk[i] = Int(bytes[offset + i]) }
    }
    requireCount(bytes.count)
  }

  private init(_ name: String, _ shape: [Int], _ dtype: Dtype, _ elements: Contents) {
    precondition(shape.allSatisfy { $0 >= 0 }, "\(name): no tensor has the shape \(shape)")
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.elements = elements
    byteCount = shape.reduce(dtype.bitWidth / 8, *)
  }

  private func requireCount(_ count: Int) {
    precondition(shape.reduce(1, *) == count, "\(name): \(count) elements do not fill the shape \(shape)")
  }
}

extension Dtype {
  /// The whole numbers that an integer type holds.
  var integers: ClosedRange<Int> {
    switch self {
    case .u8: 0...Int(UInt8.max)
    case .i32: Int(Int32.min)...Int(Int32.max)
    default: Int.min...Int.max
    }
  }
}

/// The bytes of a tensor in a file, little-endian, chunk by chunk.
struct TensorBytes {
  /// The chunk at hand.
  private(set) var bytes: [UInt8] = []
  private let tensor: TensorSource
  private let path: String
  private var offset = 0
  private var floats: [Float] = []
  private var doubles: [Double] = []
  private var integers: [Int] = []

  /// The elements converted at a time.
  private static let chunk = 1 << 20

  /// - Parameter path: the file that errors name.
  init(_ tensor: TensorSource, for path: String) {
    self.tensor = tensor
    self.path = path
  }

  /// Makes the next chunk; false where there is none.
  ///
  /// - Throws: `DiTError` when a whole number does not fit its dtype, and what the source throws.
  mutating func next() throws -> Bool {
    let size = tensor.dtype.bitWidth / 8
    let first = offset
    let count = min(Self.chunk, tensor.byteCount / size - first)
    guard count > 0 else { return false }
    switch tensor.elements {
    case .floats(let fill):
      Self.resize(&floats, count)
      var window = floats.mutableSpan
      try fill(first, &window)
    case .doubles(let fill):
      Self.resize(&doubles, count)
      var window = doubles.mutableSpan
      try fill(first, &window)
    case .integers(let fill):
      Self.resize(&integers, count)
      var window = integers.mutableSpan
      try fill(first, &window)
      let range = tensor.dtype.integers
      if let i = integers.firstIndex(where: { !range.contains($0) }) {
        let problem = SafetensorsProblem.outOfRange(
          index: first + i, value: integers[i], dtype: tensor.dtype)
        throw DiTError(file: path, tensor: tensor.name, problem: problem)
      }
    }
    var encoded = bytes
    bytes = []  // so that `encoded` is alone
    Self.resize(&encoded, count * size)
    encode(into: &encoded)
    bytes = encoded
    offset = first + count
    return true
  }

  private func encode(into bytes: inout [UInt8]) {
    var target = bytes.mutableSpan
    switch tensor.elements {
    case .floats: Elements.write(floats.span, as: tensor.dtype, into: &target)
    case .doubles: Elements.writeDoubles(doubles.span, into: &target)
    case .integers: Elements.write(integers.span, as: tensor.dtype, into: &target)
    }
  }

  /// The first chunk is the largest.
  private static func resize<Element: Numeric>(_ array: inout [Element], _ count: Int) {
    if array.isEmpty { array = [Element](repeating: 0, count: count) } else { array.removeLast(array.count - count) }
  }
}
