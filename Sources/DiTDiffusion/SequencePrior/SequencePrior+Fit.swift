import DiTKernels
import DiTLinearAlgebra
import DiTTensor

extension SequencePrior {
  /// Rows of patches with their neighbors that are added up at a time: 31 MB for n = 768.
  private static let rowsAtATime = 1024

  /// Fits the prior to images: the mean of each element, and the covariance of (neighbors, target) over all images and
  /// all positions that have all four neighbors, deviations being from that mean.
  ///
  /// Reads every image twice. The covariance costs about images · positions · (5n)² multiplications in Double. The result
  /// does not depend on the number of threads.
  ///
  /// - Parameters:
  ///   - images: how many there are, at least 1.
  ///   - grid: how the images are cut into patches.
  ///   - context: where to run.
  ///   - copy: puts the image of an index, (C, H, W), finite, at the start of its target. It is asked for all indices in
  ///     ascending order, twice.
  /// - Throws: `DiTError` (`lambda_seq`) when the grid is too small or its patches too large, and what `copy` throws.
  public init(
    fitting images: Int, of grid: PatchGrid, context: ComputeContext,
    copy: (_ index: Int, _ image: inout MutableSpan<Float>) throws -> Void
  ) throws {
    try grid.checkSequence()
    precondition(images > 0, "a prior of no images")
    let mean = try Self.mean(images, grid, copy)
    let covariance = try Self.covariance(images, grid, mean, context, copy)
    try self.init(grid: grid, mean: mean, covariance: covariance)
  }

  private static func mean(
    _ images: Int, _ grid: PatchGrid, _ copy: (Int, inout MutableSpan<Float>) throws -> Void
  ) rethrows -> [Double] {
    var image = [Float](repeating: 0, count: grid.channels * grid.height * grid.width)
    var sums = [Double](repeating: 0, count: image.count)
    for index in 0..<images {
      var target = image.mutableSpan
      try copy(index, &target)
      for i in sums.indices { sums[i] += Double(image[i]) }
    }
    return sums.map { $0 / Double(images) }
  }

  private static func covariance(
    _ images: Int, _ grid: PatchGrid, _ mean: [Double], _ context: ComputeContext,
    _ copy: (Int, inout MutableSpan<Float>) throws -> Void
  ) rethrows -> [Double] {
    let order = blocks * grid.patchElements
    let tokens = (0..<grid.tokens).filter { grid.context(of: $0) == .interior }
    let offsets = grid.patchOffsets
    var sum = [Double](repeating: 0, count: order * order)
    var rows = [Double](repeating: 0, count: rowsAtATime * order)
    var filled = 0
    var image = [Float](repeating: 0, count: mean.count)

    for index in 0..<images {
      var target = image.mutableSpan
      try copy(index, &target)
      for token in tokens {
        var row = rows.mutableSpan
        gather(token, image.span, mean, grid, offsets, into: &row, at: filled * order)
        filled += 1
        if filled == rowsAtATime {
          add(rows, filled, to: &sum, order, context)
          filled = 0
        }
      }
    }
    add(rows, filled, to: &sum, order, context)
    return symmetric(sum, order: order, scale: 1 / Double(images * tokens.count))
  }

  private static func add(
    _ rows: [Double], _ count: Int, to sum: inout [Double], _ order: Int, _ context: ComputeContext
  ) {
    var target = sum.mutableSpan
    context.addGram(&target, rows.span, rows: count, columns: order)
  }

  /// A patch's neighbors and itself, less their means.
  private static func gather(
    _ token: Int, _ image: Span<Float>, _ mean: [Double], _ grid: PatchGrid, _ offsets: [Int],
    into row: inout MutableSpan<Double>, at start: Int
  ) {
    var next = start
    for block in 0..<blocks {
      let patch = SequenceNeighbor(rawValue: block).map { token - grid.distance(to: $0) } ?? token
      let origin = grid.origin(of: patch)
      for offset in offsets {
        row[next] = Double(image[origin + offset]) - mean[origin + offset]
        next += 1
      }
    }
  }

  /// The upper triangle times `scale`, mirrored.
  private static func symmetric(_ upper: [Double], order: Int, scale: Double) -> [Double] {
    var matrix = upper
    for row in 0..<order {
      for column in row..<order {
        let value = upper[row * order + column] * scale
        matrix[row * order + column] = value
        matrix[column * order + row] = value
      }
    }
    return matrix
  }
}
