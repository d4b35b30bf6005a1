import DiTFiles
import DiTTensor

/// The storage of a set's samples. Any thread may read.
public protocol SampleStore: Sendable {
  /// N.
  var count: Int { get }
  /// Numbers of one sample.
  var depth: Int { get }
  /// Copies as many samples as `target` takes, from sample `start` on: each `depth` finite numbers, the same ones on every
  /// call.
  ///
  /// - Throws: `DiTError` where a file that holds them can no longer be read.
  func read(from start: Int, into target: inout MutableSpan<Float>) throws(DiTError)
  /// Hints that nothing will be read soon, so that pages of a mapped file may be released.
  func releasePages()
}

extension SampleStore {
  public func releasePages() {}
}

/// Samples to evaluate, or a reference: N points of d coordinates, with their classes where known.
public struct SampleSet: Sendable {
  /// The file, or whatever the caller calls the set; error messages begin with it.
  public let name: String
  /// The extents of one sample: (C, H, W) for images and latents, (d) for features.
  public let shape: [Int]
  /// One class per sample; nil when the set has none.
  public let labels: [Int]?
  /// What a person should know of the numbers, one line; nil for nothing.
  public var note: String?
  private let store: any SampleStore
  /// The samples of the store that belong to the set; nil for all.
  private let chosen: [Int]?

  /// - Parameters:
  ///   - name: what errors call the set.
  ///   - shape: of one sample; its product is the store's depth.
  ///   - store: the numbers.
  ///   - labels: one per sample of the store.
  public init(name: String, shape: [Int], store: any SampleStore, labels: [Int]? = nil) {
    precondition(shape.reduce(1, *) == store.depth, "samples of \(store.depth) numbers with the shape \(shape)")
    precondition(
      labels == nil || labels?.count == store.count, "\(labels?.count ?? 0) labels for \(store.count) samples")
    self.init(name: name, shape: shape, store: store, labels: labels, chosen: nil)
  }

  private init(name: String, shape: [Int], store: any SampleStore, labels: [Int]?, chosen: [Int]?) {
    (self.name, self.shape, self.store, self.labels, self.chosen) = (name, shape, store, labels, chosen)
  }

  /// N.
  public var count: Int { chosen?.count ?? store.count }

  /// d.
  public var depth: Int { store.depth }

  /// The samples at `indices`, in that order, as a set of its own.
  public func subset(_ indices: [Int], name: String? = nil) -> SampleSet {
    precondition(indices.allSatisfy { 0..<count ~= $0 }, "a subset beyond \(count) samples")
    var part = SampleSet(
      name: name ?? self.name, shape: shape, store: store, labels: labels.map { labels in indices.map { labels[$0] } },
      chosen: chosen.map { chosen in indices.map { chosen[$0] } } ?? indices)
    part.note = note
    return part
  }

  /// The samples of the class `label`.
  public func ofClass(_ label: Int) -> SampleSet {
    let labels = labels ?? []
    return subset(labels.indices.filter { labels[$0] == label })
  }

  /// The samples `range`, (range.count, d).
  ///
  /// - Throws: `DiTError` where a file that holds them can no longer be read.
  public func elements(_ range: Range<Int>) throws(DiTError) -> [Float] {
    guard let chosen else { return try stored(from: range.lowerBound, count: range.count) }
    var elements: [Float] = []
    elements.reserveCapacity(range.count * depth)
    for index in range { elements += try stored(from: chosen[index], count: 1) }
    return elements
  }

  /// Sample `index`: its d numbers.
  ///
  /// - Throws: as ``elements(_:)``.
  public func copy(_ index: Int, into target: inout MutableSpan<Float>) throws(DiTError) {
    precondition(target.count == depth, "\(target.count) numbers for a sample of \(depth)")
    try store.read(from: chosen?[index] ?? index, into: &target)
  }

  private func stored(from start: Int, count: Int) throws(DiTError) -> [Float] {
    var elements = [Float](repeating: 0, count: count * depth)
    var target = elements.mutableSpan
    try store.read(from: start, into: &target)
    return elements
  }

  /// See ``SampleStore/releasePages()``.
  func releasePages() { store.releasePages() }

  /// Calls `body` with blocks of samples, a few megabytes each: the first index, and the elements (count, d).
  ///
  /// - Parameter blocks: some of the ``blockCount``, by their numbers; nil for all.
  func forEachBlock(
    _ blocks: Range<Int>? = nil, _ body: (_ start: Int, _ elements: [Float]) throws(DiTError) -> Void
  ) throws(DiTError) {
    for block in blocks ?? 0..<blockCount {
      let start = block * blockSize
      try body(start, try elements(start..<min(count, start + blockSize)))
    }
    releasePages()
  }

  /// Samples of a block.
  private var blockSize: Int { max(1, min(1024, (1 << 22) / depth)) }

  var blockCount: Int { (count + blockSize - 1) / blockSize }

  /// Reads every number once.
  ///
  /// - Parameters:
  ///   - part: what errors call the numbers.
  ///   - isImage: whether they must lie in [−1, 1] rather than be finite.
  /// - Returns: the smallest and the largest number.
  /// - Throws: `DiTError`.
  @discardableResult
  public func check(_ part: DiTError.Part, isImage: Bool) throws(DiTError) -> ClosedRange<Float> {
    var (low, high) = (Float.infinity, -Float.infinity)
    let largest: Float = isImage ? 1 : 1e15
    let expected = isImage ? "values in [-1, 1]" : "finite values, at most 1e15"
    try forEachBlock { start, elements throws(DiTError) in
      if let bad = elements.firstIndex(where: { !(abs($0) <= largest) }) {
        throw DiTError(
          set: name, part, expected: expected,
          found: "\(elements[bad]) at element \(start * depth + bad), in sample \(start + bad / depth)")
      }
      for element in elements { (low, high) = (min(low, element), max(high, element)) }
    }
    return low...max(low, high)
  }
}

/// Numbers in memory.
public struct FloatStore: SampleStore {
  public let depth: Int
  private let elements: [Float]

  /// - Parameters:
  ///   - depth: numbers of a sample.
  ///   - elements: (N, depth), finite.
  public init(depth: Int, elements: [Float]) {
    precondition(depth > 0 && elements.count % depth == 0, "\(elements.count) elements for samples of \(depth)")
    self.depth = depth
    self.elements = elements
  }

  public var count: Int { elements.count / depth }

  public func read(from start: Int, into target: inout MutableSpan<Float>) {
    let source = elements.span.extracting(start * depth..<start * depth + target.count)
    for i in source.indices { target[i] = source[i] }
  }
}

/// Bytes in memory, read as x/127.5 − 1: images of 8 bits.
public struct ByteStore: SampleStore {
  public let depth: Int
  private let bytes: [UInt8]

  /// - Parameters:
  ///   - depth: numbers of a sample.
  ///   - bytes: (N, depth).
  public init(depth: Int, bytes: [UInt8]) {
    precondition(depth > 0 && bytes.count % depth == 0, "\(bytes.count) bytes for samples of \(depth)")
    self.depth = depth
    self.bytes = bytes
  }

  public var count: Int { bytes.count / depth }

  public func read(from start: Int, into target: inout MutableSpan<Float>) {
    let source = bytes.span.extracting(start * depth..<start * depth + target.count)
    for i in source.indices { target[i] = Pixels.value(Float(source[i])) }
  }
}
