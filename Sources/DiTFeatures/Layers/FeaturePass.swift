import DiTKernels
import DiTTensor

/// One image on its way, on one thread, through a network's blocks, in memory that is planned before: blocks' results lie in turns at the one and the
/// other end of it, what is between them beside their input.
///
/// Without memory nothing is computed: the same way is walked to find how much is needed.
struct FeaturePass {
  let context: ComputeContext
  private let memory: MutableFloatSlice?
  /// For ``ComputeContext/patchConvolution`` by one worker.
  private let scratch: MutableFloatSlice
  private var front = 0, back = 0
  /// Floats that were needed, and of scratch.
  private(set) var most = 0, mostScratch = 0

  /// - Parameter memory: nil to plan.
  init(_ context: ComputeContext, memory: MutableFloatSlice?, scratch: MutableFloatSlice) {
    (self.context, self.memory, self.scratch) = (context, memory, scratch)
  }

  private mutating func map(_ height: Int, _ width: Int, _ channels: Int, atBack: Bool) -> FeatureMap {
    let count = (height * width * channels + 15) & ~15
    let start: Int
    if atBack {
      back += count
      start = (memory?.count ?? back) - back
    } else {
      start = front
      front += count
    }
    most = max(most, front + back)
    let values = memory.map { $0[start..<start + height * width * channels] } ?? .empty
    return FeatureMap(height, width, channels, values)
  }

  /// An image's place, at the front.
  mutating func input(_ height: Int, _ width: Int, _ channels: Int) -> FeatureMap {
    (front, back) = (0, 0)
    return map(height, width, channels, atBack: false)
  }

  /// Goes through blocks, one after another.
  ///
  /// - Parameter taking: what is done with the result of a block that is an output.
  mutating func run(_ blocks: [FeatureBlock], on input: FeatureMap, taking: (FeatureOutput, FeatureMap) -> Void) {
    var x = input
    var isAtFront = true
    for block in blocks {
      let y = run(block, x, inFront: isAtFront)
      if let output = block.output, memory != nil { taking(output, y) }
      if isAtFront { front = 0 } else { back = 0 }
      isAtFront.toggle()
      x = y
    }
  }

  private mutating func run(_ block: FeatureBlock, _ x: FeatureMap, inFront: Bool) -> FeatureMap {
    func end(_ branch: [FeatureStep]) -> (height: Int, width: Int, channels: Int) {
      branch.reduce((x.height, x.width, x.channels)) { now, step in
        let extents = step.extents(of: now.0, now.1)
        return (extents.height, extents.width, step.channels(of: now.2))
      }
    }
    let ends = block.branches.map(end)
    let channels = ends.reduce(0) { $0 + $1.channels }
    let y = map(ends[0].height, ends[0].width, channels, atBack: inFront)
    var place = 0
    for (branch, end) in zip(block.branches, ends) {
      precondition((end.height, end.width) == (y.height, y.width), "branches of \(end) beside \(y.height) × \(y.width)")
      let mark = (front, back)
      var now = x
      for (index, step) in branch.enumerated() {
        let extents = step.extents(of: now.height, now.width)
        let isLast = index == branch.count - 1
        let count = step.channels(of: now.channels)
        let out =
          isLast
          ? FeatureMap(
            y.height, y.width, count, memory == nil ? .empty : y.values[place..<y.values.count], stride: channels)
          : map(extents.height, extents.width, count, atBack: !inFront)
        run(step, now, into: out)
        now = out
      }
      (front, back) = mark
      place += end.channels
    }
    if block.addsInput, memory != nil {
      let (source, target) = (x.values, y.values)
      context.add(source.reading, to: target)
    }
    return y
  }

  private mutating func run(_ step: FeatureStep, _ x: FeatureMap, into y: FeatureMap) {
    switch step {
    case .convolution(let unit): convolve(unit, x, into: y)
    case .split(let units):
      var place = 0
      for unit in units {
        let part = memory == nil ? .empty : y.values[place..<y.values.count]
        convolve(unit, x, into: FeatureMap(y.height, y.width, unit.outputs, part, stride: y.stride))
        place += unit.outputs
      }
    case .depthwise(let unit):
      precondition(y.stride == y.channels, "a joined filter for each channel")
      guard memory != nil else { return }
      context.depthwiseConvolution(
        output: y.values, input: x.values.reading, filters: unit.filters, bias: unit.bias, limit: unit.limit,
        unit.shape.windows(height: x.height, width: x.width, channels: x.channels), by: .caller)
    case .pool(let shape, let isMean):
      guard memory != nil else { return }
      context.pool(
        output: y.values, stride: y.stride, input: x.values.reading, isMean: isMean,
        shape.windows(height: x.height, width: x.width, channels: x.channels), by: .caller)
    }
  }

  private mutating func convolve(_ unit: ConvolutionUnit, _ x: FeatureMap, into y: FeatureMap) {
    let c = PatchConvolution(
      unit.shape.windows(height: x.height, width: x.width, channels: x.channels), outputs: unit.outputs)
    mostScratch = max(mostScratch, context.patchConvolutionScratch(c, by: .caller))
    guard memory != nil else { return }
    context.patchConvolution(
      output: y.values, stride: y.stride, input: x.values.reading, weight: unit.weight, bias: unit.bias,
      limit: unit.limit, scratch: scratch, c, by: .caller)
  }
}
