import DiTFiles
import DiTModel
import DiTTensor

extension Dataset {
  /// The elements of sample `index`, (C, H, W), mirrored left to right when `flipped`.
  ///
  /// - Throws: `DiTError` where the sample is read from a file and cannot be.
  public func sample(_ index: Int, flipped: Bool = false) throws(DiTError) -> [Float] {
    precondition(0..<count ~= index, "sample \(index) of \(count)")
    var sample = [Float](repeating: 0, count: sampleCount)
    var span = sample.mutableSpan
    if case .source(let source) = elements {
      var pixels = [UInt8](repeating: 0, count: sampleCount)
      var bytes = pixels.mutableSpan
      try source.read(index, into: &bytes)
      pixels.span.copyImage(flipped: flipped, width: width, into: &span)
    } else {
      copy(index, flipped: flipped, into: &span)
    }
    return sample
  }

  /// Copies as many samples of data in memory as `target` takes, from sample `start` on: (n, C, H, W).
  ///
  /// - Precondition: the data are not streamed, and `target` holds whole samples.
  public func copy(from start: Int, into target: inout MutableSpan<Float>) {
    precondition(target.count % sampleCount == 0, "\(target.count) elements for samples of \(sampleCount)")
    let first = start * sampleCount
    copy(first..<first + target.count, flipped: false, into: &target)
  }

  /// Copies sample `index` of data in memory to the start of `target`, mirrored left to right when `flipped`.
  func copy(_ index: Int, flipped: Bool, into target: inout MutableSpan<Float>) {
    copy(index * sampleCount..<(index + 1) * sampleCount, flipped: flipped, into: &target)
  }

  private func copy(_ range: Range<Int>, flipped: Bool, into target: inout MutableSpan<Float>) {
    switch elements {
    case .floats(let slice):
      let source = slice[range].span
      for i in source.indices { target[i] = source[flipped ? source.mirrored(i, width) : i] }
    case .bytes(let bytes):
      bytes.span.extracting(range).copyImage(flipped: flipped, width: width, into: &target)
    case .source: preconditionFailure("\(name) is not in memory")
    }
  }

  /// Sets place n to sample `index`'s caption or context image, mirrored left to right when `flipped`.
  func setSequence(_ n: Int, of input: inout SequenceInput, index: Int, flipped: Bool, mirror: inout [Float]) {
    if input.content == .text, let captions {
      input.set(n, text: captions.bytes.span.extracting(captions.range(index)))
    } else if let context {
      let size = context.count / context.shape[0]
      let image = context.elements.span.extracting(index * size..<(index + 1) * size)
      for i in 0..<size { mirror[i] = image[flipped ? image.mirrored(i, context.shape[3]) : i] }
      input.set(n, image: mirror.span.extracting(0..<size))
    }
  }
}

extension Span {
  /// The index of the element that takes the place of `index` when rows of `width` are mirrored.
  fileprivate func mirrored(_ index: Int, _ width: Int) -> Int {
    let column = index % width
    return index - column + (width - 1 - column)
  }
}

extension Span<UInt8> {
  /// Writes the bytes of an image as floats, x/127.5 − 1, mirrored left to right when `flipped`.
  func copyImage(flipped: Bool, width: Int, into target: inout MutableSpan<Float>) {
    for i in indices { target[i] = Pixels.value(Float(self[flipped ? mirrored(i, width) : i])) }
  }
}
