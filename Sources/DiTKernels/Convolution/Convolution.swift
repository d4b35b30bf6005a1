import CDiTKernels
import DiTTensor

// 3 × 3 convolutions over images with the channels innermost, by Winograd's minimal filtering (see convolution.inc).
//
//   x  (height, width, channels)      y  (height, width, outputs)      w  (outputs, channels, 3, 3)
//
// m × m results come from n² = (m + 2)² products instead of 9 m²: m is 4 in float32 and 2 in bf16.

/// A 3 × 3 convolution of one image, stride 1, zero padding 1.
public struct Convolution: Equatable, Sendable {
  /// The result's extents, and the input's as the filters see it.
  public var height, width: Int
  public var channels, outputs: Int
  /// Whether the input has half the height and width, each of its pixels standing for 2 × 2.
  public var isUpsampling: Bool

  public init(height: Int, width: Int, channels: Int, outputs: Int, isUpsampling: Bool = false) {
    precondition(!isUpsampling || (height % 2 == 0 && width % 2 == 0), "an upsampled image of \(height) × \(width)")
    self.height = height
    self.width = width
    self.channels = channels
    self.outputs = outputs
    self.isUpsampling = isUpsampling
  }

  /// Pixels of a row of the input as it lies in memory.
  var inputWidth: Int { isUpsampling ? width / 2 : width }
  var inputHeight: Int { isUpsampling ? height / 2 : height }
}

/// Rows of a convolution that is computed in parts: which rows of the result, and what the operands begin with.
public struct ConvolutionRows: Equatable, Sendable {
  /// Rows of the result: from a multiple of ``ComputeContext/convolutionTile(_:)`` to one, or to the end.
  public var range: Range<Int>
  /// The row of the input, as it lies in memory, that the operand `input` begins with.
  public var firstInput: Int
  /// The row of the result that the operands `output` and `residual` begin with.
  public var firstOutput: Int

  public init(_ range: Range<Int>, firstInput: Int = 0, firstOutput: Int = 0) {
    self.range = range
    self.firstInput = firstInput
    self.firstOutput = firstOutput
  }
}

extension Convolution {
  /// The rows of the input that a part reads; traps where it does not begin and end with tiles, or its operands begin too
  /// late.
  fileprivate func check(_ part: ConvolutionRows, tile: Int) -> Range<Int> {
    let (rows, step) = (part.range, isUpsampling ? 2 : 1)
    precondition(
      0 <= rows.lowerBound && rows.upperBound <= height && rows.lowerBound % tile == 0
        && (rows.upperBound % tile == 0 || rows.upperBound == height), "rows \(rows) of \(height)")
    let inputRows = max(0, rows.lowerBound - 1) / step..<(min(height, rows.upperBound + 1) + step - 1) / step
    precondition(part.firstInput <= inputRows.lowerBound && part.firstOutput <= rows.lowerBound, "rows before a part")
    return inputRows
  }
}

extension ComputeContext {
  /// m: rows and columns of results that are computed together.
  public static func convolutionTile(_ format: Format) -> Int { format == .bf16 ? 2 : 4 }

  /// Float elements that hold transformed and packed filters.
  public static func packedFilterElements(channels: Int, outputs: Int, format: Format) -> Int {
    frequencies(format) * packedElements(depth: channels, columns: outputs, format: format)
  }

  /// Transforms and packs the filters of a convolution.
  ///
  /// - Parameters:
  ///   - packed: ``packedFilterElements(channels:outputs:format:)`` floats.
  ///   - weight: w, (outputs, channels, 3, 3).
  ///   - channels: of the input.
  ///   - outputs: channels of the result.
  ///   - format: of the packed filters.
  public func packFilters(
    _ packed: MutableFloatSlice, weight: FloatSlice, channels: Int, outputs: Int, format: Format
  ) {
    check(weight.count, atLeast: outputs * channels * 9, "filters")
    let needed = Self.packedFilterElements(channels: channels, outputs: outputs, format: format)
    check(packed.count, atLeast: needed, "packed filters")
    let task = unsafe PackFilters(
      kernels: kernels, to: UnsafeMutableRawPointer(packed.pointer), weight: weight.pointer, channels: channels,
      outputs: outputs, format: format)
    unsafe parallel(ceilDivide(outputs, panelColumns), task)
  }

  /// Float elements of scratch that `convolution` needs, for all workers.
  public func convolutionScratch(_ c: Convolution, format: Format) -> Int {
    WinogradSchedule(c, format, tiles: WinogradSchedule.tiles(c, format)).elements(threads)
  }

  /// y = w ∗ z + b (+ residual), z = x, or SiLU(x · scale + shift) by channel.
  ///
  /// - Parameters:
  ///   - output: y; overwritten.
  ///   - input: x.
  ///   - packed: w as ``packFilters(_:weight:channels:outputs:format:)`` leaves it.
  ///   - format: of the products' factors; bf16 only without `usesBLAS`.
  ///   - usesBLAS: whether sgemm multiplies the packed matrices.
  ///   - bias: b, (outputs).
  ///   - scale: (channels), or empty.
  ///   - shift: (channels), or empty.
  ///   - residual: of y's extents, and perhaps y's own memory; or empty.
  ///   - scratch: ``convolutionScratch(_:format:)`` floats.
  ///   - c: the extents.
  ///   - part: what part of the image to compute; nil: all. A part's results are those of the whole.
  public func convolution(
    output: MutableFloatSlice, input: FloatSlice, packed: FloatSlice, _ format: Format, usesBLAS: Bool = false,
    bias: FloatSlice, scale: FloatSlice = .empty, shift: FloatSlice = .empty, residual: FloatSlice = .empty,
    scratch: MutableFloatSlice, _ c: Convolution, rows part: ConvolutionRows? = nil
  ) {
    let (tile, part) = (Self.convolutionTile(format), part ?? ConvolutionRows(0..<c.height))
    let rows = part.range
    precondition(!usesBLAS || format == .fp32, "OpenBLAS has no products of bf16")
    let inputRows = c.check(part, tile: tile)
    let size = (rows.upperBound - part.firstOutput) * c.width * c.outputs
    check(output.count, atLeast: size, "convolution output")
    check(
      input.count, atLeast: (inputRows.upperBound - part.firstInput) * c.inputWidth * c.channels, "convolution input")
    check(residual.count, atLeast: residual.isEmpty ? 0 : size, "residual")
    check(bias.count, atLeast: c.outputs, "bias")
    check(min(scale.count, shift.count), atLeast: scale.isEmpty ? 0 : c.channels, "scale and shift")
    check(
      packed.count, atLeast: Self.packedFilterElements(channels: c.channels, outputs: c.outputs, format: format),
      "filters")
    let schedule = WinogradSchedule(c, format, tiles: WinogradSchedule.tiles(c, format))
    check(scratch.count, atLeast: schedule.elements(threads), "convolution scratch")
    let across = ceilDivide(c.width, tile)
    let tiles = rows.lowerBound / tile * across..<ceilDivide(rows.upperBound, tile) * across
    guard !tiles.isEmpty else { return }
    let p = unsafe DiTConvolution(
      x: input.pointer, x_row: part.firstInput, height: c.height, width: c.width, upsample: c.isUpsampling ? 1 : 0,
      channels: c.channels, outputs: c.outputs, scale: scale.isEmpty ? nil : scale.pointer,
      shift: scale.isEmpty ? nil : shift.pointer, bf16: format.flag, tile: tile,
      weights: UnsafeRawPointer(packed.pointer),
      bias: bias.pointer, y: output.pointer, y_row: part.firstOutput,
      residual: residual.isEmpty ? nil : residual.pointer)
    unsafe run(
      WinogradTask(
        kernels: kernels, convolution: p, usesBLAS: usesBLAS, schedule: schedule, scratch: scratch.pointer), tiles)
  }

  @unsafe private func run(_ task: WinogradTask, _ tiles: Range<Int>) {
    let schedule = unsafe task.schedule
    guard schedule.isShared else {
      unsafe parallel(ceilDivide(tiles.count, schedule.block), WinogradBlocks(task: task, tiles: tiles))
      return
    }
    for start in stride(from: tiles.lowerBound, to: tiles.upperBound, by: schedule.held) {
      let held = start..<min(start + schedule.held, tiles.upperBound)
      unsafe parallel(ceilDivide(held.count, WinogradInputs.run), WinogradInputs(task: task, tiles: held))
      let blocks = ceilDivide(held.count, schedule.block)
      let outputs = unsafe WinogradOutputs(task: task, tiles: held, blocks: blocks)
      unsafe parallel(blocks * outputs.panels, outputs)
    }
  }

  static func frequencies(_ format: Format) -> Int {
    let side = convolutionTile(format) + 2
    return side * side
  }
}

/// How a convolution's tiles are cut. Results do not depend on it.
///
/// Filters that fit in the last-level cache beside everything else are read again for each block of tiles, whose V stays
/// in the second-level cache of the worker that made it. Larger ones are read as seldom as can be: the workers share the V
/// of many tiles, and each takes panels of the filters.
struct WinogradSchedule {
  /// Tiles whose products lie in cache together.
  let block: Int
  /// Tiles whose V is held at once: by each worker, or by all together.
  let held: Int
  let isShared: Bool
  private let frequencies, channels, tile, elementSize: Int

  init(_ c: Convolution, _ format: Format, tiles: Int) {
    tile = ComputeContext.convolutionTile(format)
    frequencies = ComputeContext.frequencies(format)
    channels = c.channels
    elementSize = format.size
    let filters =
      4 * ComputeContext.packedFilterElements(channels: c.channels, outputs: c.outputs, format: format)
    isShared = filters > Self.cachedFilters || tiles < 8 * Self.leastBlock
    let largest = format == .bf16 ? 96 : 48
    if isShared {
      block = min(largest, max(1, tiles))
      let perTile = frequencies * c.channels * format.size
      held = min(tiles, max(block, Self.sharedBytes / perTile / block * block))
    } else {
      let perTile = frequencies * format.size * c.channels
      block = min(largest, max(Self.leastBlock, Self.privateBytes / perTile / 6 * 6))
      held = block
    }
  }

  static func tiles(_ c: Convolution, _ format: Format) -> Int {
    let tile = ComputeContext.convolutionTile(format)
    return ceilDivide(c.height, tile) * ceilDivide(c.width, tile)
  }

  static let cachedFilters = 12 << 20
  static let leastBlock = 24
  static let privateBytes = 700 << 10
  static let sharedBytes = 20 << 20

  /// Elements between the matrices of V: past the tiles' own, so that they do not lie a power of two apart.
  var stride: Int { held * channels + 32 }
  /// Floats of V.
  var inputs: Int { (frequencies * stride * elementSize / 4 + 15) & ~15 }
  /// Floats of a worker's products.
  var products: Int { dit_winograd_work(tile, block) }

  func elements(_ threads: Int) -> Int { (isShared ? inputs : threads * inputs) + threads * products }
}

@unsafe private struct WinogradTask {
  let kernels: DiTKernelTable
  let convolution: DiTConvolution
  let usesBLAS: Bool
  let schedule: WinogradSchedule
  let scratch: UnsafeMutablePointer<Float>

  func output(
    _ tiles: Range<Int>, panel: Int, v: UnsafeRawPointer, products: UnsafeMutablePointer<Float>
  ) {
    unsafe withUnsafePointer(to: convolution) { p in
      guard unsafe usesBLAS else {
        unsafe kernels.winograd_output(p, products, v, schedule.stride, tiles.lowerBound, tiles.count, panel)
        return
      }
      let (depth, columns) = unsafe (p.pointee.channels, p.pointee.outputs - panel * panelColumns)
      let side = unsafe p.pointee.tile + 2
      let v = unsafe v.assumingMemoryBound(to: Float.self)
      let u = unsafe p.pointee.weights!.assumingMemoryBound(to: Float.self)
      for f in 0..<side * side {
        unsafe sgemm(
          .plain(v + f * schedule.stride, depth),
          .plain(u + (panel * side * side + f) * depth * panelColumns, panelColumns),
          into: products + f * dit_winograd_stride(tiles.count), panelColumns, m: tiles.count,
          n: min(columns, panelColumns), k: depth)
      }
      unsafe kernels.winograd_finish(p, products, tiles.lowerBound, tiles.count, panel)
    }
  }
}

/// A block of tiles, from its input to its results in all panels.
@unsafe private struct WinogradBlocks: ParallelTask {
  let task: WinogradTask
  let tiles: Range<Int>

  func run(_ index: Int, worker: Int) {
    let schedule = unsafe task.schedule
    let first = unsafe tiles.lowerBound + index * schedule.block
    let block = unsafe first..<min(first + schedule.block, tiles.upperBound)
    let v = unsafe UnsafeMutableRawPointer(task.scratch + worker * (schedule.inputs + schedule.products))
    let products = unsafe task.scratch + worker * (schedule.inputs + schedule.products) + schedule.inputs
    unsafe withUnsafePointer(to: task.convolution) { p in
      unsafe task.kernels.winograd_input(v, schedule.stride, p, block.lowerBound, block.count)
      for panel in 0..<ceilDivide(unsafe p.pointee.outputs, panelColumns) {
        unsafe task.output(block, panel: panel, v: v, products: products)
      }
    }
  }
}

/// The V of some tiles, for all workers.
@unsafe private struct WinogradInputs: ParallelTask {
  static let run = 8

  let task: WinogradTask
  let tiles: Range<Int>

  func run(_ index: Int, worker: Int) {
    let first = unsafe index * Self.run
    let count = unsafe min(Self.run, tiles.count - first)
    unsafe withUnsafePointer(to: task.convolution) { p in
      let size = unsafe p.pointee.channels * (p.pointee.bf16 == 0 ? 4 : 2)
      unsafe task.kernels.winograd_input(
        UnsafeMutableRawPointer(task.scratch) + first * size, task.schedule.stride, p, tiles.lowerBound + first, count)
    }
  }
}

/// The results of a block of tiles in one panel. A panel's blocks follow each other.
@unsafe private struct WinogradOutputs: ParallelTask {
  let task: WinogradTask
  let tiles: Range<Int>
  let blocks: Int

  var panels: Int { unsafe ceilDivide(task.convolution.outputs, panelColumns) }

  func run(_ index: Int, worker: Int) {
    let schedule = unsafe task.schedule
    let first = unsafe index % blocks * schedule.block
    let block = unsafe tiles.lowerBound + first..<min(tiles.lowerBound + first + schedule.block, tiles.upperBound)
    let size = unsafe task.convolution.channels * (task.convolution.bf16 == 0 ? 4 : 2)
    unsafe task.output(
      block, panel: index / blocks, v: UnsafeRawPointer(task.scratch) + first * size,
      products: task.scratch + schedule.inputs + worker * schedule.products)
  }
}

@unsafe private struct PackFilters: ParallelTask {
  let kernels: DiTKernelTable
  let to: UnsafeMutableRawPointer
  let weight: UnsafePointer<Float>
  let channels, outputs: Int
  let format: Format

  func run(_ panel: Int, worker: Int) {
    unsafe kernels.winograd_weights(
      to, weight, ComputeContext.convolutionTile(format), panel, outputs, channels, format.flag)
  }
}
