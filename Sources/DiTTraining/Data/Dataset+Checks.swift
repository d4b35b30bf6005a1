// What is checked when data are opened, and the digest that comes of it; what is checked when a network meets them.

import DiTModel
import DiTTensor

extension Dataset {
  /// Whether the elements are all that the kind allows.
  ///
  /// - Returns: the smallest and the largest of floats.
  static func check(
    _ elements: Elements, of count: Int, _ kind: Kind, _ name: String, _ digest: inout Digest
  ) throws(DiTError) -> ClosedRange<Float>? {
    switch elements {
    case .bytes(let bytes):
      for byte in bytes { digest.add(UInt64(byte)) }
      return nil
    case .floats(let slice):
      return try check(slice.span, of: count, kind, name, kind.rawValue, &digest)
    case .source: return nil
    }
  }

  @discardableResult
  private static func check(
    _ values: Span<Float>, of count: Int, _ kind: Kind, _ name: String, _ tensor: String, _ digest: inout Digest
  ) throws(DiTError) -> ClosedRange<Float>? {
    var (low, high) = (Float.infinity, -Float.infinity)
    let limit: Float = kind == .images ? 1 : .greatestFiniteMagnitude
    for i in values.indices {
      let value = values[i]
      // A NaN fails every comparison.
      guard abs(value) <= limit else {
        throw DiTError(data: name, .tensor(tensor), .value(index: i, sample: i / (values.count / count), found: value))
      }
      digest.add(UInt64(value.bitPattern))
      (low, high) = (min(low, value), max(high, value))
    }
    return low <= high ? low...high : nil
  }

  static func check(
    _ labels: (shape: [Int], values: [Int]), count: Int, _ name: String, _ digest: inout Digest
  ) throws(DiTError) {
    guard labels.shape == [count] else {
      throw DiTError(
        data: name, .tensor("labels"), .shape(expected: "(\(count)), one label per sample", found: labels.shape))
    }
    for (i, label) in labels.values.enumerated() {
      guard label >= 0 else {
        throw DiTError(data: name, .tensor("labels"), .label(index: i, found: label, classes: nil))
      }
      digest.add(UInt64(label))
    }
  }

  static func check(
    _ captions: Captions, count: Int, _ name: String, _ digest: inout Digest
  ) throws(DiTError) {
    guard captions.count == count else {
      let expected = "(\(count), M), one text per sample"
      throw DiTError(data: name, .tensor(Captions.tensor), .shape(expected: expected, found: [captions.count]))
    }
    for index in 0..<count {
      digest.add(UInt64(captions.range(index).count))
      for byte in captions.bytes[captions.range(index)] { digest.add(UInt64(byte)) }
    }
  }

  static func check(
    _ context: Tensor, count: Int, _ kind: Kind, _ name: String, _ digest: inout Digest
  ) throws(DiTError) {
    guard context.shape.count == 4, context.shape[0] == count, context.shape.allSatisfy({ $0 > 0 }) else {
      let expected = "(\(count), C, h, w), one image per sample"
      throw DiTError(data: name, .tensor(contextTensor), .shape(expected: expected, found: context.shape))
    }
    for extent in context.shape { digest.add(UInt64(extent)) }
    try check(context.elements.span, of: count, kind, name, contextTensor, &digest)
  }

  /// Names differ from each other, and each label has one.
  static func check(_ classNames: [String], labels: [Int]?, _ name: String) throws(DiTError) {
    var (seen, twice): (Set<ExactName>, String?) = ([], nil)
    for className in classNames where !seen.insert(ExactName(className)).inserted { twice = twice ?? className }
    let found = "\(classNames.count)" + (twice.map { ", of which \"\(Message.oneLine($0))\" twice" } ?? "")
    guard twice == nil, !classNames.isEmpty, !classNames.contains("") else {
      throw DiTError(
        data: name, .key(classNamesKey), .classNames(expected: "different names, none empty", found: found))
    }
    if let largest = labels?.max(), largest >= classNames.count {
      throw DiTError(
        data: name, .key(classNamesKey), .classNames(expected: "a name for each label up to \(largest)", found: found))
    }
  }

  /// Throws unless a network of this configuration can be trained on the data: the same C, H and W, a label below
  /// `num_classes` for every sample where the network has classes, and captions or context images that fit where it has
  /// a sequence. What the network does not take is ignored.
  public func check(for configuration: DiTConfiguration) throws(DiTError) {
    let c = configuration
    guard (channels, height, width) == (c.inChannels, c.inputHeight, c.inputWidth) else {
      let expected = "(N, \(c.inChannels), \(c.inputHeight), \(c.inputWidth)) as the model's configuration says"
      throw DiTError(
        data: name, .tensor(kind.rawValue), .shape(expected: expected, found: [count, channels, height, width]))
    }
    try checkSequences(for: c)
    guard c.numClasses > 0 else { return }
    guard let labels else { throw DiTError(data: name, .tensor("labels"), .noLabels(classes: c.numClasses)) }
    if let i = labels.firstIndex(where: { $0 >= c.numClasses }) {
      throw DiTError(data: name, .tensor("labels"), .label(index: i, found: labels[i], classes: c.numClasses))
    }
  }

  private func checkSequences(for c: DiTConfiguration) throws(DiTError) {
    switch c.sequence {
    case nil: break
    case .text(let length):
      guard let captions else { throw DiTError(data: name, .tensor(Captions.tensor), .missing(for: "text")) }
      if let index = (0..<count).first(where: { captions.range($0).count > length }) {
        let found = captions.range(index).count
        throw DiTError(data: name, .tensor(Captions.tensor), .caption(index: index, found: found, limit: length))
      }
    case .image(let height, let width):
      guard let context else { throw DiTError(data: name, .tensor(Self.contextTensor), .missing(for: "context_image")) }
      guard context.shape == [count, c.inChannels, height, width] else {
        let expected = "(N, \(c.inChannels), \(height), \(width)) as the model's configuration says"
        throw DiTError(data: name, .tensor(Self.contextTensor), .shape(expected: expected, found: context.shape))
      }
    }
  }
}

/// FNV-1a over 64-bit words, by which a resumed run recognizes its data.
package struct Digest {
  package private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

  package init() {}

  package mutating func add(_ word: UInt64) {
    value = (value ^ word) &* 0x100_0000_01B3
  }
}
