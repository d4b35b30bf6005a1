import DiTTensor

/// How the elements of a tensor lie in a storage: element [i₀, i₁, …] at offset + Σ iₖ·strideₖ, counted in elements.
///
/// Made only by ``init(shape:strides:offset:capacity:)``, so that every element of a layout is inside its storage.
struct StridedLayout: Sendable {
  /// The first element's place.
  let offset: Int
  /// The number of elements.
  let count: Int
  /// Extents and strides without extents of 1, neighbors joined where they lie like one.
  private let extents: [(count: Int, stride: Int)]

  /// Why a claim is refused: what was expected and what was found.
  struct Refusal: Error {
    let expected, found: String
  }

  /// Checks the claim against a storage of `capacity` elements; no sum or product can overflow.
  init(shape: [Int], strides: [Int], offset: Int, capacity: Int) throws(Refusal) {
    guard shape.count == strides.count else {
      throw Refusal(expected: "a stride for each of \(shape.count) extents", found: "\(strides.count)")
    }
    guard offset >= 0, shape.allSatisfy({ $0 >= 0 }), strides.allSatisfy({ $0 >= 0 }) else {
      throw Refusal(
        expected: "offset, extents and strides of 0 or more",
        found: "\(offset), \(Message.shape(shape)) and \(Message.shape(strides))")
    }
    guard let count = Self.product(shape) else {
      throw Refusal(expected: "a size that fits \(Int.bitWidth) bits", found: "shape \(Message.shape(shape))")
    }
    let last = shape.contains(0) ? offset : Self.last(shape, strides, offset)
    guard let last, shape.contains(0) ? last <= capacity : last < capacity else {
      let view = "offset \(offset), shape \(Message.shape(shape)), strides \(Message.shape(strides))"
      throw Refusal(expected: "elements inside the storage's \(capacity)", found: view)
    }
    self.offset = offset
    self.count = count
    extents = Self.joined(shape, strides)
  }

  /// Whether the elements lie one after the other in row-major order.
  var isContiguous: Bool {
    count == 0 || extents.isEmpty || extents.count == 1 && extents[0].stride == 1
  }

  /// The product; extents of 0 are left out, so that the order of multiplication does not matter, and then give 0.
  private static func product(_ shape: [Int]) -> Int? {
    var count = 1
    for extent in shape where extent != 0 {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      if overflow { return nil }
      count = product
    }
    return shape.contains(0) ? 0 : count
  }

  /// The place of the last element; extents are at least 1. Nil for what exceeds an `Int`.
  private static func last(_ shape: [Int], _ strides: [Int], _ offset: Int) -> Int? {
    var last = offset
    for (extent, stride) in zip(shape, strides) {
      let (distance, tooFar) = (extent - 1).multipliedReportingOverflow(by: stride)
      let (sum, tooLarge) = last.addingReportingOverflow(distance)
      if tooFar || tooLarge { return nil }
      last = sum
    }
    return last
  }

  private static func joined(_ shape: [Int], _ strides: [Int]) -> [(count: Int, stride: Int)] {
    var extents: [(count: Int, stride: Int)] = []
    for (extent, stride) in zip(shape, strides) where extent != 1 {
      if let outer = extents.last, outer.stride == stride.multipliedReportingOverflow(by: extent).partialValue,
        !stride.multipliedReportingOverflow(by: extent).overflow
      {
        extents[extents.count - 1] = (outer.count * extent, stride)
      } else {
        extents.append((extent, stride))
      }
    }
    return extents
  }

  /// Elements that lie at equal distances: the innermost extent.
  struct Run {
    /// The first one's place in the storage, and in the tensor.
    var source, target: Int
    let count, stride: Int
  }

  /// All elements in row-major order, a run at a time.
  struct Runs: Sequence, IteratorProtocol {
    private let outer: [(count: Int, stride: Int)]
    private var index: [Int]
    private var run: Run
    private var remaining: Int

    fileprivate init(_ layout: StridedLayout) {
      let inner = layout.extents.last ?? (count: 1, stride: 1)
      outer = layout.extents.dropLast()
      index = [Int](repeating: 0, count: outer.count)
      run = Run(source: layout.offset, target: 0, count: inner.count, stride: inner.stride)
      remaining = layout.count == 0 ? 0 : layout.count / inner.count
    }

    mutating func next() -> Run? {
      guard remaining > 0 else { return nil }
      remaining -= 1
      defer { advance() }
      return run
    }

    private mutating func advance() {
      run.target += run.count
      for k in outer.indices.reversed() {
        index[k] += 1
        run.source += outer[k].stride
        if index[k] < outer[k].count || remaining == 0 { return }
        run.source -= outer[k].stride * outer[k].count
        index[k] = 0
      }
    }
  }

  var runs: Runs { Runs(self) }
}
