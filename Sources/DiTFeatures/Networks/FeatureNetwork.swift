import DiTFiles
import DiTKernels
import DiTTensor
import Synchronization

/// What a network of convolutions says of a picture.
public enum FeatureOutput: String, CaseIterable, Sendable {
  /// The last layer before the classes, averaged over the picture.
  case features
  /// Inception's first 7 channels of `mixed_6/conv`, (17, 17, 7): ADM's spatial features.
  case spatial
  /// A number for each class; Inception's without the bias, as the Inception Score takes them.
  case logits
}

/// A network of convolutions whose features of pictures the field's distances are made of.
///
/// A file is recognized by the names of its tensors: FID's Inception-v3, as pytorch-fid and torch-fidelity download it, and
/// EfficientNet-Lite0, whose distances are never called FID.
public final class FeatureNetwork: Sendable {
  /// The networks, by the names that reports give them.
  public enum Kind: String, Sendable {
    case inceptionV3 = "inception-v3"
    case efficientNetLite0 = "efficientnet-lite0"
  }

  public let kind: Kind
  /// The weights' file.
  public let path: String
  /// Rows and columns of what it sees.
  public let side: Int
  /// The resize of pictures that the network comes with; Inception's is pytorch-fid's.
  public var resize: PictureResize { kind == .inceptionV3 ? .pytorchFID : .efficientNetLite }

  private let blocks: [FeatureBlock]
  private let context: ComputeContext
  private let classifier: Classifier?
  /// Numbers of the features.
  private let depth: Int
  /// Floats of a worker: of maps, and of patches.
  private let memory, scratch: Int

  /// Rows and columns, and channels, of ``FeatureOutput/spatial``.
  private static let spatial = (side: 17, channels: 7)

  /// Reads the file.
  ///
  /// - Throws: `DiTError` for a file that holds no such network, a tensor of another shape or with numbers that are not finite, and what
  ///   reading the file throws.
  public convenience init(contentsOf path: String, context: ComputeContext) throws {
    try self.init(StateDictFile(contentsOf: path).store, context: context)
  }

  /// The network whose tensors `store` has.
  ///
  /// - Throws: as ``init(contentsOf:context:)``.
  public init(_ store: any TensorStore, context: ComputeContext) throws {
    path = store.path
    self.context = context
    if InceptionV3.isIn(store) {
      let network = try InceptionV3(store, context)
      (kind, side, depth, blocks) = (.inceptionV3, 299, 2048, network.blocks)
      classifier = network.classifier.map { Classifier(weight: $0, bias: nil, depth: 2048, context) }
    } else if EfficientNetLite0.isIn(store) {
      let network = try EfficientNetLite0(store, context)
      (kind, side, depth, blocks) = (.efficientNetLite0, 224, 1280, network.blocks)
      classifier = Classifier(weight: network.classifier.weight, bias: network.classifier.bias, depth: 1280, context)
    } else {
      throw DiTError(
        file: store.path, .entry("tensors"), expected: "those of FID's Inception-v3 or of EfficientNet-Lite0",
        found: Message.list(store.keys.prefix(4).map(\.name)) { $0 })
    }
    var plan = FeaturePass(context, memory: nil, scratch: .empty)
    plan.run(blocks, on: plan.input(side, side, 3)) { _, _ in }
    (memory, scratch) = (plan.most, plan.mostScratch)
  }

  /// Numbers of an output of one picture; nil where the network, or its file, has none.
  public func count(of output: FeatureOutput) -> Int? {
    switch output {
    case .features: depth
    case .spatial: kind == .inceptionV3 ? Self.spatial.side * Self.spatial.side * Self.spatial.channels : nil
    case .logits: classifier?.count
    }
  }

  /// What the network says of pictures: for each output wanted, (count, ``count(of:)``).
  ///
  /// Each picture is computed alone on a worker, so that nothing depends on the others, or on how many there are.
  ///
  /// - Parameters:
  ///   - wanted: outputs that the network has.
  ///   - count: of the pictures.
  ///   - shape: the pictures' (channels, height, width), 1 or 3 channels.
  ///   - resize: how they are made ``side`` × ``side``; the network's own by default.
  ///   - picture: writes picture `index`, its shape's numbers in 0 … 255; called from several threads at once.
  /// - Throws: what `picture` throws first.
  public func outputs(
    _ wanted: [FeatureOutput], count: Int, shape: (channels: Int, height: Int, width: Int),
    resize: PictureResize? = nil,
    picture: @escaping @Sendable (_ index: Int, _ into: inout MutableSpan<Float>) throws(DiTError) -> Void
  ) throws(DiTError) -> [[Float]] {
    precondition([1, 3].contains(shape.channels), "pictures of \(shape.channels) channels")
    let sizes = FeatureOutput.allCases.map { output in
      wanted.contains(output) || output == .features ? self.count(of: output) ?? 0 : 0
    }
    for output in wanted { precondition(self.count(of: output) != nil, "\(kind.rawValue) has no \(output.rawValue)") }
    let task = PictureTask(
      network: self, results: sizes.map { MutableFloatSlice(zeros: count * $0) }, sizes: sizes,
      memory: MutableFloatSlice(uninitialized: context.threads * memory),
      scratch: MutableFloatSlice(uninitialized: context.threads * scratch),
      shape: shape, axes: (resize ?? self.resize).axes(height: shape.height, width: shape.width, side: side),
      picture: picture)
    context.parallel(count, task)
    if let failure = task.failure.error { throw failure }
    if wanted.contains(.logits), let classifier {
      classifier.apply(task.results[0].reading, rows: count, into: task.results[2], context)
    }
    return wanted.map { output in task.results[FeatureOutput.allCases.firstIndex(of: output) ?? 0].array }
  }

  private struct PictureTask: ParallelTask {
    let network: FeatureNetwork
    /// Of all outputs, some of them empty.
    let results: [MutableFloatSlice]
    let sizes: [Int]
    let memory, scratch: MutableFloatSlice
    let shape: (channels: Int, height: Int, width: Int)
    let axes: PictureResize.Axes
    let picture: @Sendable (_ index: Int, _ into: inout MutableSpan<Float>) throws(DiTError) -> Void
    let failure = Failure()

    func run(_ index: Int, worker: Int) {
      guard failure.error == nil else { return }
      var given = [Float](repeating: 0, count: shape.channels * shape.height * shape.width)
      var span = given.mutableSpan
      do throws(DiTError) { try picture(index, &span) } catch { return failure.note(error, at: index) }
      let size = network.memory
      var pass = FeaturePass(
        network.context, memory: memory[worker * size..<(worker + 1) * size],
        scratch: scratch[worker * network.scratch..<(worker + 1) * network.scratch])
      let input = pass.input(network.side, network.side, 3)
      var pixels = input.values.mutableSpan
      axes.write(given.span, channels: shape.channels, into: &pixels)
      pass.run(network.blocks, on: input) { output, map in take(output, map, of: index) }
    }

    private func take(_ output: FeatureOutput, _ map: FeatureMap, of index: Int) {
      let (place, size) = output == .spatial ? (1, sizes[1]) : (0, sizes[0])
      guard size > 0 else { return }
      var target = results[place][index * size..<(index + 1) * size].mutableSpan
      let source = map.values.span
      let channels = size / (map.height * map.width)
      for pixel in 0..<map.height * map.width {
        for channel in 0..<channels { target[pixel * channels + channel] = source[pixel * map.stride + channel] }
      }
    }
  }

  /// The first error of several threads, by the pictures' order.
  private final class Failure: Sendable {
    private let found = Mutex<(index: Int, error: DiTError)?>(nil)

    var error: DiTError? { found.withLock { $0?.error } }

    func note(_ error: DiTError, at index: Int) {
      found.withLock { if ($0?.index ?? .max) > index { $0 = (index, error) } }
    }
  }
}

extension FeatureNetwork: Equatable {
  /// Whether both are the same object.
  public static func == (a: FeatureNetwork, b: FeatureNetwork) -> Bool { a === b }
}

/// The classes' layer: y = W x + b.
private struct Classifier: Sendable {
  let count: Int
  /// Wᵀ in panels.
  private let weight: Matrix
  private let bias: FloatSlice?

  init(weight: [Float], bias: [Float]?, depth: Int, _ context: ComputeContext) {
    count = weight.count / depth
    let columns = Matrix(FloatSlice(weight), rows: count, columns: depth).transposed
    let floats = ComputeContext.packedElements(depth: depth, columns: count, format: .fp32)
    self.weight = context.pack(columns, into: MutableFloatSlice(zeros: floats), as: .fp32)
    self.bias = bias.map { FloatSlice($0) }
  }

  func apply(_ features: FloatSlice, rows: Int, into logits: MutableFloatSlice, _ context: ComputeContext) {
    context.product(
      into: MutableMatrix(logits, rows: rows, columns: count),
      Matrix(features, rows: rows, columns: weight.rows), weight, bias: bias)
  }
}
