// Training data: images or latents (N, C, H, W), with labels where there are classes, captions or context images where
// sequences condition the model.

import DiTFiles
import DiTPipeline
import DiTTensor

/// Images in [−1, 1] or latents, and their classes.
///
/// Floats stay where they lie in a mapped file; bytes are kept as bytes and read as x/127.5 − 1 when a batch is put
/// together; an ``ImageSource`` is read in the background while the network trains.
public struct Dataset: Sendable {
  /// What the elements are.
  public enum Kind: String, Sendable {
    /// Pixels in [−1, 1].
    case images
    /// An autoencoder's latents, already times its scaling factor; any finite values.
    case latents
  }

  enum Elements: Sendable {
    case floats(FloatSlice)
    case bytes([UInt8])
    case source(any ImageSource)
  }

  /// The file, or whatever the caller calls the data; error messages begin with it.
  public let name: String
  /// What the elements are.
  public let kind: Kind
  /// N.
  public let count: Int
  /// C.
  public let channels: Int
  /// H.
  public let height: Int
  /// W.
  public let width: Int
  /// One class per sample; nil when the data have none.
  public let labels: [Int]?
  /// One name per class, in the order of the labels; nil when the data have none.
  public let classNames: [String]?
  /// One text per sample; nil when the data have none.
  public let captions: Captions?
  /// Another image for each sample, (N, C, h, w); nil when the data have none.
  public let context: Tensor?
  /// 64 bits that depend on every element, label, caption and context image, or are a source's own: two data sets with
  /// the same digest are taken for the same.
  public let digest: UInt64
  /// What a person should know of the elements, one line; nil for nothing.
  public let note: String?
  let elements: Elements

  static let contextTensor = "context"
  static let classNamesKey = "class_names"

  /// C·H·W.
  public var sampleCount: Int { channels * height * width }

  /// Whether the samples are read while the network trains.
  public var isStreamed: Bool { source != nil }

  /// Where streamed samples are read from; nil for those in memory.
  public var source: (any ImageSource)? { if case .source(let source) = elements { source } else { nil } }

  /// Data from a safetensors file with `images` (N,C,H,W; F32, F16, BF16 or F64 in [−1, 1], or U8 read as
  /// x/127.5 − 1) or `latents` (floats), and optional `labels` (N; I64, I32, U8, or floats that are whole numbers),
  /// `captions` (N, M; U8, UTF-8, zero-padded) and `context` (N, C, h, w; floats, for a model with `context_image`).
  /// The metadata may hold `class_names`, a JSON array of strings.
  ///
  /// All elements are read once to check them.
  /// - Throws: `DiTError`, which names the file and the tensor, and what opening the file throws.
  public init(contentsOf path: String) throws {
    let file = try SafetensorsFile(contentsOf: path)
    let found = [Kind.images, .latents].filter { file.entry(named: $0.rawValue) != nil }
    guard found.count == 1, let kind = found.first else {
      throw DiTError(data: path, nil, .noData(both: found.count == 2))
    }
    let entry = try file.requireEntry(named: kind.rawValue)
    let elements: Elements =
      if entry.dtype == .u8, kind == .images {
        .bytes(try file.withBytes(of: kind.rawValue) { $0.array })
      } else {
        .floats(try file.slice(kind.rawValue))
      }
    var labels: (shape: [Int], values: [Int])?
    if file.entry(named: "labels") != nil { labels = try file.integers("labels") }
    let captions = file.entry(named: Captions.tensor) == nil ? nil : try Captions(file, count: entry.shape.first ?? 0)
    let context = file.entry(named: Self.contextTensor) == nil ? nil : try file.tensor(Self.contextTensor)
    try self.init(
      name: path, kind: kind, shape: entry.shape, elements: elements, labels: labels,
      classNames: try Self.classNames(file), captions: captions, context: context)
  }

  /// Data from memory.
  ///
  /// - Parameters:
  ///   - images: (N, C, H, W).
  ///   - labels: one per sample, from 0.
  ///   - classNames: one per class.
  ///   - captions: one per sample.
  ///   - context: another image for each sample, (N, C, h, w).
  ///   - kind: images or latents.
  ///   - name: what errors call the data.
  /// - Throws: `DiTError`.
  public init(
    _ images: Tensor, labels: [Int]? = nil, classNames: [String]? = nil, captions: [String]? = nil,
    context: Tensor? = nil, kind: Kind = .images, name: String
  ) throws(DiTError) {
    try self.init(
      name: name, kind: kind, shape: images.shape, elements: .floats(FloatSlice(images.elements)),
      labels: labels.map { ([$0.count], $0) }, classNames: classNames, captions: captions.map { Captions($0) },
      context: context)
  }

  /// Images that are read in the background.
  ///
  /// - Parameters:
  ///   - source: reads them.
  ///   - labels: one per sample, from 0.
  ///   - classNames: one per class.
  /// - Throws: `DiTError`.
  public init(_ source: any ImageSource, labels: [Int]? = nil, classNames: [String]? = nil) throws(DiTError) {
    try self.init(
      name: source.name, kind: .images, shape: [source.count, source.channels, source.height, source.width],
      elements: .source(source), labels: labels.map { ([$0.count], $0) }, classNames: classNames,
      digest: source.digest)
  }

  /// Images that were read from `source`: `pixels` (N, C, H, W), read as x/127.5 − 1. The digest is the source's.
  ///
  /// - Throws: `DiTError`.
  public init(
    _ source: any ImageSource, pixels: [UInt8], labels: [Int]? = nil, classNames: [String]? = nil
  ) throws(DiTError) {
    let shape = [source.count, source.channels, source.height, source.width]
    precondition(pixels.count == shape.reduce(1, *), "\(pixels.count) bytes for images of shape \(shape)")
    try self.init(
      name: source.name, kind: .images, shape: shape, elements: .bytes(pixels),
      labels: labels.map { ([$0.count], $0) }, classNames: classNames, digest: source.digest)
  }

  private init(
    name: String, kind: Kind, shape: [Int], elements: Elements, labels: (shape: [Int], values: [Int])?,
    classNames: [String]?, captions: Captions? = nil, context: Tensor? = nil, digest known: UInt64? = nil
  ) throws(DiTError) {
    guard shape.count == 4, shape.allSatisfy({ $0 > 0 }) else {
      throw DiTError(data: name, .tensor(kind.rawValue), .shape(expected: "(N, C, H, W), none of them 0", found: shape))
    }
    self.name = name
    self.kind = kind
    (count, channels, height, width) = (shape[0], shape[1], shape[2], shape[3])
    self.elements = elements
    self.labels = labels?.values
    self.classNames = classNames
    self.captions = captions
    self.context = context
    var digest = Digest()
    for extent in shape { digest.add(UInt64(extent)) }
    let range = known == nil ? try Self.check(elements, of: shape[0], kind, name, &digest) : nil
    note = kind == .images ? range.flatMap(Pixels.note).map { "\(name): \(kind.rawValue): \($0)" } : nil
    if let labels { try Self.check(labels, count: shape[0], name, &digest) }
    if let captions { try Self.check(captions, count: shape[0], name, &digest) }
    if let context { try Self.check(context, count: shape[0], kind, name, &digest) }
    if let classNames { try Self.check(classNames, labels: labels?.values, name) }
    if let known { digest.add(known) }
    self.digest = digest.value
  }

  /// The metadata's `class_names`.
  private static func classNames(_ file: SafetensorsFile) throws -> [String]? {
    guard let text = file.metadata[classNamesKey] else { return nil }
    let expected = "a JSON array of strings in the metadata"
    guard let value = try? JSONValue(parsing: Array(text.utf8), file: file.path), case .array(let values) = value else {
      throw DiTError(data: file.path, .key(classNamesKey), .classNames(expected: expected, found: "something else"))
    }
    return try values.map { value in
      guard case .string(let name) = value else {
        throw DiTError(
          data: file.path, .key(classNamesKey), .classNames(expected: expected, found: "something else in it"))
      }
      return name
    }
  }
}
