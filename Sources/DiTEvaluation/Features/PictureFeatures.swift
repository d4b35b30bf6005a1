import DiTDistributed
import DiTFeatures
import DiTFiles
import DiTKernels
import DiTTensor

/// What a network says of a set's pictures: the space in which the field's distances are measured.
///
/// The numbers lie in nameless files of the temporary folder (`TMPDIR`, or /tmp), 8 KB a picture for Inception's features and as much for
/// its spatial ones, so that memory does not depend on how many pictures there are.
public struct PictureFeatures: Sendable {
  public let network: FeatureNetwork
  public let resize: PictureResize
  /// The features; their statistics where the input came with some.
  public let features: EvaluationInput
  /// The spatial features; nil where the network has none, or they were not wanted.
  public let spatial: EvaluationInput?
  /// A number for each class; nil where they were not wanted.
  public let logits: SampleSet?

  /// Computes them.
  ///
  /// - Parameters:
  ///   - input: pictures, (C, H, W) of 1 or 3 channels in [−1, 1], which are rounded to 8 bits as in a file; or statistics of such
  ///     features; or both, where the pictures need not be those that the statistics are of.
  ///   - network: which features.
  ///   - resize: how the pictures are fitted to the network's input; its own by default.
  ///   - wanted: of pictures; outputs that the network does not have are left out.
  ///   - group: processes that share the work; each gets all.
  ///   - progress: called with the pictures done and all of them.
  /// - Throws: `DiTError` for other inputs, for a full temporary folder, for pictures that can no longer be read, and what `progress` throws.
  public init(
    of input: EvaluationInput, by network: FeatureNetwork, resize: PictureResize? = nil,
    outputs wanted: [FeatureOutput] = FeatureOutput.allCases, group: any Communicator = SingleProcess(),
    progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws {
    (self.network, self.resize) = (network, resize ?? network.resize)
    try Self.check(input, by: network, outputs: wanted)
    var sets: [FeatureOutput: SampleSet] = [:]
    if let set = input.set {
      let outputs = FeatureOutput.allCases.filter { wanted.contains($0) && network.count(of: $0) != nil }
      sets = try set.outputs(outputs, of: network, self.resize, group, progress: progress)
    }
    features = EvaluationInput(
      name: input.name, set: sets[.features], statistics: input.statistics, depth: network.count(of: .features) ?? 0)
    spatial = network.count(of: .spatial).flatMap { depth in
      sets[.spatial] == nil && input.spatial == nil
        ? nil : EvaluationInput(name: input.name, set: sets[.spatial], statistics: input.spatial, depth: depth)
    }
    logits = sets[.logits]
  }

  /// Throws unless the features can be computed, and before that takes hours.
  ///
  /// - Parameters:
  ///   - input: as for ``init(of:by:resize:outputs:group:progress:)``.
  ///   - network: which features.
  ///   - wanted: of pictures.
  /// - Throws: `DiTError` for pictures of other than 1 or 3 channels, and statistics of other features.
  public static func check(
    _ input: EvaluationInput, by network: FeatureNetwork, outputs wanted: [FeatureOutput] = FeatureOutput.allCases
  ) throws(DiTError) {
    for (statistics, output) in [(input.statistics, FeatureOutput.features), (input.spatial, .spatial)] {
      guard let statistics, let depth = network.count(of: output), statistics.mean.count != depth else { continue }
      throw DiTError(
        set: statistics.name, .entry(output == .features ? "mu" : "mu_s"),
        expected: "\(depth) numbers, as \(network.kind.rawValue)'s \(output.rawValue) are",
        found: "\(statistics.mean.count)")
    }
    guard let set = input.set, wanted.contains(where: { network.count(of: $0) != nil }) else { return }
    guard set.shape.count == 3, [1, 3].contains(set.shape[0]) else {
      throw DiTError(
        set: set.name, expected: "pictures of 1 or 3 channels, for the features of \(network.kind.rawValue)",
        found: "samples of shape \(set.shape)")
    }
  }
}

extension SampleSet {
  /// Pictures of a process at a time.
  private static let featureBlock = 64

  fileprivate func outputs(
    _ wanted: [FeatureOutput], of network: FeatureNetwork, _ resize: PictureResize, _ group: any Communicator,
    progress: (Int, Int) throws -> Void
  ) throws -> [FeatureOutput: SampleSet] {
    guard !wanted.isEmpty else { return [:] }
    let depths = wanted.map { network.count(of: $0) ?? 0 }
    let stores = try depths.map { depth throws(DiTError) in try FeatureFile(depth: depth, count: count) }
    try progress(0, count)
    for start in stride(from: 0, to: count, by: Self.featureBlock * group.size) {
      let all = start..<min(count, start + Self.featureBlock * group.size)
      let parts = (0..<group.size).map { rank in
        all.lowerBound + rank * all.count / group.size..<all.lowerBound + (rank + 1) * all.count / group.size
      }
      let own = parts[group.rank]
      let found = try network.outputs(
        wanted, count: own.count, shape: (shape[0], shape[1], shape[2]), resize: resize
      ) { index, pixels throws(DiTError) in
        try copy(own.lowerBound + index, into: &pixels)
        for i in pixels.indices { pixels[i] = min(max((pixels[i] + 1) * 127.5, 0), 255).rounded() }
      }
      for (index, numbers) in found.enumerated() {
        try stores[index].append(try group.joined(numbers, parts, start: all.lowerBound, depth: depths[index]))
      }
      releasePages()
      try progress(all.upperBound, count)
    }
    return Dictionary(
      uniqueKeysWithValues: zip(wanted, stores).map { output, store in
        (output, SampleSet(name: name, shape: [store.depth], store: store, labels: labels))
      })
  }
}

extension Communicator {
  /// All ranks' rows of a block: this one's are `numbers`.
  fileprivate func joined(_ numbers: [Float], _ parts: [Range<Int>], start: Int, depth: Int) throws(DiTError) -> [Float]
  {
    guard size > 1 else { return numbers }
    let places = parts.map { ($0.lowerBound - start) * depth..<($0.upperBound - start) * depth }
    let buffer = MutableFloatSlice(zeros: places[size - 1].upperBound)
    buffer[places[rank]].copy(from: numbers.span)
    try gather(buffer, places)
    return buffer.array
  }
}

/// Samples on the disk, in a file without a name that the system removes with the process.
private final class FeatureFile: SampleStore {
  let depth, count: Int
  private let file: UnnamedFile

  /// - Parameter count: samples that will be appended.
  init(depth: Int, count: Int) throws(DiTError) {
    (self.depth, self.count) = (depth, count)
    file = try UnnamedFile(for: Paths.join(Paths.temporaryFolder, "features"))
  }

  func append(_ values: [Float]) throws(DiTError) {
    let bytes = unsafe values.withUnsafeBytes { unsafe [UInt8]($0) }
    try file.append(bytes.span)
  }

  func read(from start: Int, into target: inout MutableSpan<Float>) throws(DiTError) {
    let size = MemoryLayout<Float>.size
    let bytes = try file.bytes(at: size * depth * start, count: size * target.count)
    unsafe bytes.withUnsafeBytes { bytes in
      for i in target.indices { target[i] = unsafe bytes.loadUnaligned(fromByteOffset: size * i, as: Float.self) }
    }
  }
}
