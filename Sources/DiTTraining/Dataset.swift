// Training data: images or latents (N, C, H, W), with labels where there are classes, captions or context images where
// sequences condition the model.

import DiTCheckpoint
import DiTModel
import DiTTensor

/// Images in [−1, 1] or latents, and their classes.
///
/// Floats stay where they lie in a mapped file; bytes are kept as bytes and read as x/127.5 − 1 when a batch is put
/// together.
public struct Dataset: Sendable {
  /// What the elements are.
  public enum Kind: String, Sendable {
    /// Pixels in [−1, 1].
    case images
    /// An autoencoder's latents, already times its scaling factor; any finite values.
    case latents
  }

  enum Elements: Sendable {
    case floats(Slice)
    case bytes([UInt8])
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
  /// One class a sample; nil when the data have none.
  public let labels: [Int]?
  /// One text a sample; nil when the data have none.
  public let captions: Captions?
  /// Another image for each sample, (N, C, h, w); nil when the data have none.
  public let context: Tensor?
  /// 64 bits that depend on every element, label, caption and context image: two data sets with the same digest are taken for the same.
  public let digest: UInt64
  let elements: Elements

  /// C·H·W.
  public var sampleCount: Int { channels * height * width }

  /// Data from a safetensors file with `images` (N,C,H,W; F32, F16, BF16 or F64 in [−1, 1], or U8 read as
  /// x/127.5 − 1) or `latents` (floats), and optional `labels` (N; I64, I32, U8, or floats that are whole numbers),
  /// `captions` (N, M; U8, UTF-8, zero-padded) and `context` (N, C, h, w; floats, for a model with `context_image`).
  ///
  /// All elements are read once to check them.
  /// - Throws: ``DatasetError``, which names the file and the tensor, and what opening the file throws.
  public init(contentsOf path: String) throws {
    let file = try SafetensorsFile(contentsOf: path)
    let found = [Kind.images, .latents].filter { file.entry(named: $0.rawValue) != nil }
    guard found.count == 1, let kind = found.first else {
      throw DatasetError(path, nil, .noData(both: found.count == 2))
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
      name: path, kind: kind, shape: entry.shape, elements: elements, labels: labels, captions: captions,
      context: context)
  }

  /// Data from memory.
  ///
  /// - Parameters:
  ///   - images: (N, C, H, W).
  ///   - labels: one a sample, from 0.
  ///   - captions: one a sample.
  ///   - context: another image for each sample, (N, C, h, w).
  ///   - name: what errors call the data.
  /// - Throws: ``DatasetError``.
  public init(
    _ images: Tensor, labels: [Int]? = nil, captions: [String]? = nil, context: Tensor? = nil, kind: Kind = .images,
    name: String
  ) throws(DatasetError) {
    try self.init(
      name: name, kind: kind, shape: images.shape, elements: .floats(Slice(images.elements)),
      labels: labels.map { ([$0.count], $0) }, captions: captions.map { Captions($0) }, context: context)
  }

  private init(
    name: String, kind: Kind, shape: [Int], elements: Elements, labels: (shape: [Int], values: [Int])?,
    captions: Captions?, context: Tensor?
  ) throws(DatasetError) {
    guard shape.count == 4, shape.allSatisfy({ $0 > 0 }) else {
      throw DatasetError(name, kind.rawValue, .shape(expected: "(N, C, H, W), none of them 0", found: shape))
    }
    self.name = name
    self.kind = kind
    (count, channels, height, width) = (shape[0], shape[1], shape[2], shape[3])
    self.elements = elements
    self.labels = labels?.values
    self.captions = captions
    self.context = context
    var digest = Digest()
    for extent in shape { digest.add(UInt64(extent)) }
    try Self.check(elements, kind, name, &digest)
    if let labels { try Self.check(labels, count: shape[0], name, &digest) }
    if let captions { try Self.check(captions, count: shape[0], name, &digest) }
    if let context { try Self.check(context, count: shape[0], kind, name, &digest) }
    self.digest = digest.value
  }

  private static func check(
    _ elements: Elements, _ kind: Kind, _ name: String, _ digest: inout Digest
  ) throws(DatasetError) {
    switch elements {
    case .bytes(let bytes):
      for byte in bytes { digest.add(UInt64(byte)) }
    case .floats(let slice):
      let span = slice.span
      let limit: Float = kind == .images ? 1 : .greatestFiniteMagnitude
      for i in span.indices {
        let value = span[i]
        // A NaN fails every comparison.
        guard abs(value) <= limit else { throw DatasetError(name, kind.rawValue, .value(index: i, found: value)) }
        digest.add(UInt64(value.bitPattern))
      }
    }
  }

  private static func check(
    _ labels: (shape: [Int], values: [Int]), count: Int, _ name: String, _ digest: inout Digest
  ) throws(DatasetError) {
    guard labels.shape == [count] else {
      throw DatasetError(name, "labels", .shape(expected: "(\(count)), one label a sample", found: labels.shape))
    }
    for (i, label) in labels.values.enumerated() {
      guard label >= 0 else { throw DatasetError(name, "labels", .label(index: i, found: label, classes: nil)) }
      digest.add(UInt64(label))
    }
  }

  private static func check(
    _ captions: Captions, count: Int, _ name: String, _ digest: inout Digest
  ) throws(DatasetError) {
    guard captions.count == count else {
      let expected = "(\(count), M), one text a sample"
      throw DatasetError(name, Captions.tensor, .shape(expected: expected, found: [captions.count]))
    }
    for index in 0..<count {
      digest.add(UInt64(captions.range(index).count))
      for byte in captions.bytes[captions.range(index)] { digest.add(UInt64(byte)) }
    }
  }

  private static func check(
    _ context: Tensor, count: Int, _ kind: Kind, _ name: String, _ digest: inout Digest
  ) throws(DatasetError) {
    guard context.shape.count == 4, context.shape[0] == count, context.shape.allSatisfy({ $0 > 0 }) else {
      let expected = "(\(count), C, h, w), one image a sample"
      throw DatasetError(name, contextTensor, .shape(expected: expected, found: context.shape))
    }
    let limit: Float = kind == .images ? 1 : .greatestFiniteMagnitude
    for extent in context.shape { digest.add(UInt64(extent)) }
    for (i, value) in context.elements.enumerated() {
      guard abs(value) <= limit else { throw DatasetError(name, contextTensor, .value(index: i, found: value)) }
      digest.add(UInt64(value.bitPattern))
    }
  }

  static let contextTensor = "context"

  /// Throws unless a network of this configuration can be trained on the data: the same C, H and W, a label below
  /// `num_classes` for every sample where the network has classes, and captions or context images that fit where it has
  /// a sequence. What the network does not take is ignored.
  public func check(for configuration: DiTConfiguration) throws(DatasetError) {
    let c = configuration
    guard (channels, height, width) == (c.inChannels, c.inputHeight, c.inputWidth) else {
      let expected = "(N, \(c.inChannels), \(c.inputHeight), \(c.inputWidth)) as the model's configuration says"
      throw DatasetError(name, kind.rawValue, .shape(expected: expected, found: [count, channels, height, width]))
    }
    try checkSequences(for: c)
    guard c.numClasses > 0 else { return }
    guard let labels else { throw DatasetError(name, "labels", .noLabels(classes: c.numClasses)) }
    if let i = labels.firstIndex(where: { $0 >= c.numClasses }) {
      throw DatasetError(name, "labels", .label(index: i, found: labels[i], classes: c.numClasses))
    }
  }

  private func checkSequences(for c: DiTConfiguration) throws(DatasetError) {
    switch c.sequence {
    case nil: break
    case .text(let length):
      guard let captions else { throw DatasetError(name, Captions.tensor, .missing(for: "text")) }
      if let index = (0..<count).first(where: { captions.range($0).count > length }) {
        let found = captions.range(index).count
        throw DatasetError(name, Captions.tensor, .caption(index: index, found: found, limit: length))
      }
    case .image(let height, let width):
      guard let context else { throw DatasetError(name, Self.contextTensor, .missing(for: "context_image")) }
      guard context.shape == [count, c.inChannels, height, width] else {
        let expected = "(N, \(c.inChannels), \(height), \(width)) as the model's configuration says"
        throw DatasetError(name, Self.contextTensor, .shape(expected: expected, found: context.shape))
      }
    }
  }

  /// Sets place n to sample `index`'s caption or context image, mirrored left to right when `flipped`.
  func setSequence(_ n: Int, of input: inout SequenceInput, index: Int, flipped: Bool, mirror: inout [Float]) {
    if input.content == .text, let captions {
      input.set(n, text: captions.bytes.span.extracting(captions.range(index)))
    } else if let context {
      let size = context.count / context.shape[0]
      let width = context.shape[3]
      for i in 0..<size {
        let column = i % width
        mirror[i] = context.elements[index * size + (flipped ? i - column + width - 1 - column : i)]
      }
      input.set(n, image: mirror.span.extracting(0..<size))
    }
  }

  /// The elements of sample `index`, (C, H, W), mirrored left to right when `flipped`.
  public func sample(_ index: Int, flipped: Bool = false) -> [Float] {
    precondition(0..<count ~= index, "sample \(index) of \(count)")
    var sample = [Float](repeating: 0, count: sampleCount)
    var span = sample.mutableSpan
    copy(index, flipped: flipped, into: &span)
    return sample
  }

  /// Copies sample `index` to the start of `target`, mirrored left to right when `flipped`.
  func copy(_ index: Int, flipped: Bool, into target: inout MutableSpan<Float>) {
    let start = index * sampleCount
    switch elements {
    case .floats(let slice):
      let source = slice[start..<start + sampleCount].span
      for i in source.indices { target[i] = source[flipped ? mirrored(i) : i] }
    case .bytes(let bytes):
      for i in 0..<sampleCount { target[i] = Float(bytes[start + (flipped ? mirrored(i) : i)]) / 127.5 - 1 }
    }
  }

  private func mirrored(_ index: Int) -> Int {
    let column = index % width
    return index - column + (width - 1 - column)
  }
}

/// FNV-1a over 64-bit words.
private struct Digest {
  private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

  mutating func add(_ word: UInt64) {
    value = (value ^ word) &* 0x100_0000_01B3
  }
}

/// Data that cannot be trained on.
public struct DatasetError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What is wrong.
  public enum Problem: Equatable, Sendable {
    /// Neither `images` nor `latents`, or both.
    case noData(both: Bool)
    case shape(expected: String, found: [Int])
    /// An image's element outside [−1, 1], or a latent's that is not finite.
    case value(index: Int, found: Float)
    /// A label below 0 or not below `classes`.
    case label(index: Int, found: Int, classes: Int?)
    /// A model with classes and data without labels.
    case noLabels(classes: Int)
    /// A model with `key` and data without what it needs.
    case missing(for: String)
    /// A caption of more bytes than the model's `text.length`.
    case caption(index: Int, found: Int, limit: Int)
    /// A caption that is no zero-padded UTF-8.
    case notText(index: Int)
    /// No sample is left to train on.
    case nothingToTrain(count: Int, modulus: Int)
  }

  /// The data's name, a path when they come from a file.
  public let name: String
  /// The tensor.
  public let tensor: String?
  public let problem: Problem

  init(_ name: String, _ tensor: String?, _ problem: Problem) {
    self.name = name
    self.tensor = tensor
    self.problem = problem
  }

  /// One line: file, tensor, what was expected, what was found.
  public var description: String { "\(name): \(tensor.map { "\($0): " } ?? "")\(text)" }

  private var text: String {
    switch problem {
    case .noData(let both):
      both ? "expected images or latents, found both" : "expected a tensor images or latents, found neither"
    case .shape(let expected, let found):
      "expected the shape \(expected), found (\(found.map(String.init).joined(separator: ", ")))"
    case .value(let index, let found):
      tensor != Dataset.Kind.latents.rawValue
        ? "expected values in [-1, 1], found \(found) at element \(index)"
        : "expected finite values, found \(found) at element \(index)"
    case .label(let index, let found, let classes):
      "expected \(classes.map { "0 to \($0 - 1)" } ?? "0 or more"), found \(found) at sample \(index)"
    case .noLabels(let classes): "missing; the model has \(classes) classes"
    case .missing(let key): "missing; the model has \(key)"
    case .caption(let index, let found, let limit):
      "expected at most \(limit) bytes, the model's text.length, found \(found) at sample \(index)"
    case .notText(let index): "expected UTF-8 padded with zeros, found something else at sample \(index)"
    case .nothingToTrain(let count, let modulus):
      "of \(count) samples none is left to train on with validation_modulus \(modulus)"
    }
  }
}
