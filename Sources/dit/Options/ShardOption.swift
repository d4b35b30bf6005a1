import ArgumentParser
import DiTDistributed
import DiTEngine

/// `--shard`.
struct ShardOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Make every n-th image alone, from number i on (i from 0 to n−1), for a job array; each is what it is in the whole run. \
      (default: all)
      """, valueName: "i/n"),
    transform: { text in
      guard let share = ImageShare(text) else {
        throw DiTError(option: "shard", expected: "i/n with i from 0 to n−1", found: text)
      }
      return share
    })
  var shard: ImageShare?

  /// The share of one process: what `--shard` says, or its own among several.
  func share(of group: any Communicator) throws(Failure) -> ImageShare {
    guard group.size > 1 else { return shard ?? .whole }
    if let shard {
      throw .usage("--shard", expected: "none beside --distributed", found: "\(shard.index)/\(shard.count)")
    }
    return ImageShare(index: group.rank, of: group.size)
  }
}

extension SampleRequest {
  /// The part of the images that a process makes.
  func part(_ share: ImageShare) -> SampleRequest {
    guard share != .whole else { return self }
    let numbers = share.numbers(of: count)
    let sequence: ConditioningSequence? =
      switch sequence {
      case nil: nil
      case .texts(let texts): .texts(numbers.map { texts[$0] })
      case .embeddings(let tokens): .embeddings(numbers.map { tokens[$0] })
      case .images(let images): .images(images.picking(numbers))
      }
    return SampleRequest(
      labels: labels.map { labels in numbers.map { labels[$0] } }, sequence: sequence, count: numbers.count,
      countPerClass: 1, start: start.map { ($0.noise.picking(numbers), $0.file) })
  }
}

extension Tensor {
  /// The samples at these places, in this order.
  fileprivate func picking(_ places: [Int]) -> Tensor {
    Tensor(shape: [places.count] + shape.dropFirst(), elements: places.flatMap { range($0..<$0 + 1).elements })
  }
}

extension Communicator {
  /// All images of a run of which every rank has made its share, on the first rank; elsewhere none of meaning.
  ///
  /// - Parameters:
  ///   - own: (n, C, H, W).
  ///   - total: the images of the run.
  func collected(_ own: Tensor, total: Int) throws(DiTError) -> Tensor {
    guard size > 1 else { return own }
    let extents = Array(own.shape.dropFirst())
    let each = extents.reduce(1, *)
    let counts = (0..<size).map { ImageShare(index: $0, of: size).numbers(of: total).count }
    var all = [Float](repeating: 0, count: isFirst ? total * each : 0)
    let step = max(1, (1 << 22) / each)  // 16 MiB from each rank at a time
    let elements = MutableFloatSlice(own.elements)
    let received = MutableFloatSlice(zeros: isFirst ? step * each * size : 0)
    for start in stride(from: 0, to: counts[0], by: step) {
      let ranges = counts.map { min(start, $0)..<min(start + step, $0) }
      let mine = ranges[rank].lowerBound * each..<ranges[rank].upperBound * each
      var parts = [Range<Int>](repeating: 0..<0, count: size)
      parts[0] = mine
      let places = ranges.indices.map { rank in
        isFirst ? rank * step * each..<rank * step * each + ranges[rank].count * each : 0..<0
      }
      try exchange(elements.reading, parts, into: received, places)
      guard isFirst else { continue }
      for (rank, range) in ranges.enumerated() {
        for (place, n) in range.enumerated() {
          let source = received[(rank * step + place) * each..<(rank * step + place + 1) * each].reading.array
          let number = rank + n * size
          all.replaceSubrange(number * each..<(number + 1) * each, with: source)
        }
      }
    }
    return Tensor(shape: [isFirst ? total : 0] + extents, elements: all)
  }

  /// How many of the run's first images are finished, where every rank has finished so many of its own.
  func finishedImages(_ own: Int, total: Int) throws(DiTError) -> Int {
    guard size > 1 else { return own }
    let all = try gather([Double(own)]).map { Int($0[0]) }
    return all.enumerated().map { rank, finished in
      let numbers = ImageShare(index: rank, of: size).numbers(of: total)
      return finished < numbers.count ? numbers[finished] : total
    }.min() ?? 0
  }
}
