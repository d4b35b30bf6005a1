import DiTFiles
import DiTKernels
import DiTTensor

/// A network of convolutions whose features of pictures the field's distances are made of.
///
/// A file is recognized by the names of its tensors: FID's Inception-v3, as pytorch-fid and torch-fidelity download it, and
/// EfficientNet-Lite0, whose distances are never called FID.
public final class FeatureNetwork: Sendable {
  public enum Kind: String, Sendable {
    case inceptionV3 = "FID's Inception-v3"
    case efficientNetLite0 = "EfficientNet-Lite0"
  }

  public let kind: Kind
  /// The weights' file.
  public let path: String
  /// Rows and columns of what it sees.
  public let side: Int
  /// d: numbers of a picture's features.
  public let featureCount: Int
  /// The resize of pictures that the network comes with; Inception's is pytorch-fid's.
  public var resize: PictureResize { kind == .inceptionV3 ? .pytorchFID : .efficientNetLite }

  private let blocks: [FeatureBlock]
  private let context: ComputeContext
  private let classifier: (weight: [Float], bias: [Float])?
  /// Floats of a worker: of maps, and of patches.
  private let memory, scratch: Int

  /// - Throws: `DiTError` for a file that holds no such network, and what reading it throws.
  public init(contentsOf path: String, context: ComputeContext) throws {
    let store = try StateDictFile(contentsOf: path).store
    self.path = path
    self.context = context
    if InceptionV3.isIn(store) {
      (kind, side, featureCount) = (.inceptionV3, 299, 2048)
      blocks = try InceptionV3(store, context).blocks
      classifier =
        store.shape(of: "fc.weight") == [1008, 2048]
        ? (try store.slice("fc.weight").array, try store.slice("fc.bias").array) : nil
    } else if EfficientNetLite0.isIn(store) {
      (kind, side, featureCount) = (.efficientNetLite0, 224, 1280)
      let network = try EfficientNetLite0(store, context)
      (blocks, classifier) = (network.blocks, network.classifier)
    } else {
      throw DiTError(
        file: path, .entry("tensors"), expected: "those of FID's Inception-v3 or of EfficientNet-Lite0",
        found: Message.list(store.keys.prefix(4).map(\.name)) { $0 })
    }
    var plan = FeaturePass(context, memory: nil, scratch: .empty)
    _ = plan.run(blocks, on: plan.input(side, side, 3)) { _, _ in }
    (memory, scratch) = (plan.most, plan.mostScratch)
  }

  /// Bytes that features of many pictures need at once, beside the weights and the features.
  public var workingBytes: Int { 4 * context.threads * (memory + scratch) }

  /// The features of pictures, (count, ``featureCount``): each picture alone on a worker, so that none depends on the others.
  ///
  /// - Parameters:
  ///   - picture: writes picture `index`, (channels, height, width) in 0 … 255; called from several threads at once.
  ///   - channels: 1 or 3.
  public func features(
    count: Int, channels: Int, height: Int, width: Int, resize: PictureResize? = nil,
    picture: @escaping @Sendable (_ index: Int, _ into: inout MutableSpan<Float>) -> Void
  ) -> [Float] {
    precondition([1, 3].contains(channels), "pictures of \(channels) channels")
    let features = MutableFloatSlice(zeros: count * featureCount)
    let (memory, scratch) = (
      MutableFloatSlice(uninitialized: context.threads * self.memory),
      MutableFloatSlice(uninitialized: context.threads * self.scratch)
    )
    let task = PictureTask(
      network: self, features: features, memory: memory, scratch: scratch, shape: (channels, height, width),
      resize: resize ?? self.resize, picture: picture)
    context.parallel(count, task)
    return features.array
  }

  private struct PictureTask: ParallelTask {
    let network: FeatureNetwork
    let features, memory, scratch: MutableFloatSlice
    let shape: (channels: Int, height: Int, width: Int)
    let resize: PictureResize
    let picture: @Sendable (_ index: Int, _ into: inout MutableSpan<Float>) -> Void

    func run(_ index: Int, worker: Int) {
      let (size, count) = (network.memory, network.featureCount)
      var given = [Float](repeating: 0, count: shape.channels * shape.height * shape.width)
      var span = given.mutableSpan
      picture(index, &span)
      var pass = FeaturePass(
        network.context, memory: memory[worker * size..<(worker + 1) * size],
        scratch: scratch[worker * network.scratch..<(worker + 1) * network.scratch])
      let input = pass.input(network.side, network.side, 3)
      var pixels = input.values.mutableSpan
      resize.write(
        given.span, channels: shape.channels, height: shape.height, width: shape.width, side: network.side,
        into: &pixels)
      let last = pass.run(network.blocks, on: input) { _, _ in }
      features[index * count..<(index + 1) * count].copy(from: last.values.span)
    }
  }
}
