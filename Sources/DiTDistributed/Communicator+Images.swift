import DiTTensor

// Images that ranks have made, image i on rank i mod P.

extension Communicator {
  /// How many of `total` images are a rank's.
  private func count(_ rank: Int, of total: Int) -> Int { (total - rank + size - 1) / size }

  /// All images of a run of which every rank has made its share, on the first rank; on the others none.
  ///
  /// - Parameters:
  ///   - own: (n, C, H, W).
  ///   - total: the images of the run.
  package func collect(_ own: Tensor, total: Int) throws(DiTError) -> Tensor {
    guard size > 1 else { return own }
    let extents = Array(own.shape.dropFirst())
    let each = extents.reduce(1, *)
    let counts = (0..<size).map { count($0, of: total) }
    try barrier()  // shares take their time
    var all = [Float](repeating: 0, count: isFirst ? total * each : 0)
    // 16 MiB from all ranks at a time.
    let step = min(counts[0], max(1, (1 << 22) / max(1, each * size)))
    let elements = MutableFloatSlice(own.elements)
    let received = MutableFloatSlice(zeros: isFirst ? step * each * size : 0)
    for start in stride(from: 0, to: counts[0], by: max(1, step)) {
      let ranges = counts.map { min(start, $0)..<min(start + step, $0) }
      var parts = [Range<Int>](repeating: 0..<0, count: size)
      parts[0] = 0..<ranges[rank].count * each
      let places = ranges.indices.map { other in
        let first = other * step * each
        return isFirst && !ranges[other].isEmpty ? first..<first + ranges[other].count * each : 0..<0
      }
      let mine = ranges[rank].lowerBound * each..<ranges[rank].upperBound * each
      try exchange(elements[mine].reading, parts, into: received, places)
      guard isFirst else { continue }
      for (other, range) in ranges.enumerated() {
        for (place, n) in range.enumerated() {
          let source = received[(other * step + place) * each..<(other * step + place + 1) * each]
          let number = other + n * size
          all.replaceSubrange(number * each..<(number + 1) * each, with: source.array)
        }
      }
    }
    return Tensor(shape: [isFirst ? total : 0] + extents, elements: all)
  }

  /// How many of a run's first images are finished, where every rank has finished so many of its own; on all ranks.
  package func finishedImages(_ own: Int, total: Int) throws(DiTError) -> Int {
    let all = try gather([Double(own)]).map { Int($0[0]) }
    return all.enumerated().map { rank, finished in
      finished < count(rank, of: total) ? rank + finished * size : total
    }.min() ?? 0
  }
}
