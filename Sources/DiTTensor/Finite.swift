// Numbers that are none: a picture, latents or noise are never made of them.

extension Span where Element == Float {
  /// The index of the first element that is NaN or infinite; nil where all are finite. Reads at the speed of memory.
  public var firstNotFinite: Int? {
    let block = 4096
    return unsafe withUnsafeBufferPointer { elements in
      for start in stride(from: 0, to: elements.count, by: block) {
        let end = min(start + block, elements.count)
        // An exponent of ones carries into the sign's place. No branch, so that the loop becomes a vector loop.
        var carries: UInt32 = 0
        for index in start..<end {
          carries |= (unsafe elements[index].bitPattern & 0x7F80_0000) &+ 0x0080_0000
        }
        if carries & 0x8000_0000 != 0 { return (start..<end).first { unsafe !elements[$0].isFinite } }
      }
      return nil
    }
  }

  /// What is wrong with images (N, …): as in `nan in image 3`; nil where all elements are finite.
  ///
  /// - Parameter images: N.
  package func notFinite(images: Int) -> (image: Int, value: Float)? {
    guard let index = firstNotFinite else { return nil }
    return (index / Swift.max(1, count / Swift.max(1, images)), self[index])
  }
}

extension Tensor {
  /// What is wrong with a tensor (N, …) of which an element is NaN or infinite, as in `nan in image 3`; nil where all are
  /// finite.
  package var notFinite: String? {
    guard let (image, value) = elements.span.notFinite(images: shape.first ?? 1) else { return nil }
    return "\(Overflow.text(value)) in image \(image)"
  }
}
