import DiTKernels
import DiTTensor

/// A 3 × 3 convolution by Winograd's filtering, on sizes that fill neither tiles nor vectors.
public struct ConvolutionCase: KernelCase {
  let extents: Convolution
  var format = Format.fp32
  var isNormalized = true
  var hasResidual = true
  var usesBLAS = false
  /// Rows that are computed at a time, after the whole; nil: the whole alone.
  var part: Int?
  /// The residual is the result's own memory.
  var isInPlace = false

  public var description: String {
    let e = extents
    return "\(e.height)×\(e.width)×\(e.channels)→\(e.outputs)\(e.isUpsampling ? " upsampled" : ""), "
      + (usesBLAS ? "OpenBLAS" : "\(format)") + (isNormalized ? ", normalized" : "")
      + (hasResidual ? isInPlace ? ", residual in place" : ", residual" : "") + (part.map { ", \($0) rows each" } ?? "")
  }
  public var kernels: Set<String> {
    ["winograd_weights", "winograd_input", usesBLAS ? "winograd_finish" : "winograd_output"]
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    let (e, step) = (extents, extents.isUpsampling ? 2 : 1)
    return [
      "x": draw.normal(e.height / step * (e.width / step) * e.channels), "w": draw.normal(e.outputs * e.channels * 9),
      "b": draw.normal(e.outputs), "scale": draw.normal(e.channels), "shift": draw.normal(e.channels),
      "residual": draw.normal(e.height * e.width * e.outputs),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let e = extents
    let packed = o.scratch(
      ComputeContext.packedFilterElements(channels: e.channels, outputs: e.outputs, format: format))
    context.packFilters(packed, weight: o.vector("w"), channels: e.channels, outputs: e.outputs, format: format)
    let (x, bias, scratch) = (o.vector("x"), o.vector("b"), o.scratch(context.convolutionScratch(e, format: format)))
    let scale = isNormalized ? o.vector("scale") : .empty
    let shift = isNormalized ? o.vector("shift") : .empty
    func call(_ name: String, each rows: Int) -> () -> Void {
      let y: MutableFloatSlice
      let residual: FloatSlice
      if isInPlace {
        let all = o.state(name, from: "residual", rows: e.height * e.width, columns: e.outputs)
        (y, residual) = (all.memory, all.reading.memory)
      } else {
        y = o.output(name, e.height * e.width * e.outputs)
        residual = hasResidual ? o.vector("residual") : .empty
      }
      return {
        for start in stride(from: 0, to: e.height, by: rows) {
          context.convolution(
            output: y, input: x, packed: packed.reading, format, usesBLAS: usesBLAS, bias: bias, scale: scale,
            shift: shift, residual: residual, scratch: scratch, e,
            rows: ConvolutionRows(start..<min(start + rows, e.height)))
        }
      }
    }
    let whole = call("y", each: e.height)
    guard let part else { return whole }
    whole()
    return call("y in parts", each: part)
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (e, step) = (extents, extents.isUpsampling ? 2 : 1)
    let (scale, shift, w, bias) = (x["scale"], x["shift"], x["w"], x["b"])
    let image = x["x"].enumerated().map { i, value in
      isNormalized ? Reference.silu(value * scale[i % e.channels] + shift[i % e.channels]) : value
    }
    let y = convolved(height: e.height, width: e.width, channels: e.channels, outputs: e.outputs, w, bias) {
      row, column in
      guard 0..<e.height ~= row - 1, 0..<e.width ~= column - 1 else { return nil }
      let pixel = ((row - 1) / step * (e.width / step) + (column - 1) / step) * e.channels
      return image[pixel..<pixel + e.channels]
    }
    // Winograd's F(4 × 4): its transforms' weights amplify roundings about ten times over a plain sum's.
    let exact = Tolerance.roundings(40 * (4 + Int(Double(e.channels).squareRoot())))
    let whole = Expectation.near("y", hasResidual ? sum(y, x["residual"]) : y, format == .bf16 ? .bf16(6) : exact)
    return part == nil ? [whole] : [whole, .same("y in parts", as: "y")]
  }

  private static let sizes = [
    Convolution(height: 5, width: 7, channels: 3, outputs: 5),
    Convolution(height: 4, width: 8, channels: 16, outputs: 64),
    Convolution(height: 1, width: 1, channels: 20, outputs: 70),
    Convolution(height: 10, width: 6, channels: 33, outputs: 130, isUpsampling: true),
    Convolution(height: 30, width: 44, channels: 7, outputs: 9),  // more tiles than a block
    Convolution(height: 22, width: 19, channels: 21, outputs: 70),
    Convolution(height: 2, width: 3, channels: 530, outputs: 3),  // more channels than a run keeps
  ]

  public static let all =
    sizes.flatMap { e in
      [false, true].flatMap { isFull in
        [false, true].map {
          ConvolutionCase(extents: e, isNormalized: isFull, hasResidual: isFull, usesBLAS: $0)
        }
      } + [ConvolutionCase(extents: e, format: .bf16)]
        + Format.all.flatMap { format in
          [1, 3].map {
            ConvolutionCase(extents: e, format: format, part: $0 * ComputeContext.convolutionTile(format))
          }
        }
    } + [ConvolutionCase(extents: sizes[0], isNormalized: false, isInPlace: true)]
}

/// A convolution through gathered patches, of any filter and stride.
public struct PatchConvolutionCase: KernelCase {
  let extents: PatchConvolution
  /// Nil: OpenBLAS, in float32.
  let format: Format?
  var limit: Float?
  /// Floats between the pixels of the result that are not its own.
  var gap = 0

  public var description: String {
    let (e, w) = (extents, extents.windows)
    return "\(w.height)×\(w.width)×\(w.channels)→\(e.outputs) by \(w.rows)×\(w.columns), stride \(w.stride), "
      + (format.map { "\($0)" } ?? "OpenBLAS") + (limit.map { ", ReLU to \($0)" } ?? "") + (gap > 0 ? ", in more" : "")
  }
  public var kernels: Set<String> {
    var kernels: Set<String> = format == nil ? ["add_bias"] : ["pack_transposed", "product"]
    if extents.windows.rows * extents.windows.columns > 1 { kernels.insert("gather_patches") }
    return kernels
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    let (e, w) = (extents, extents.windows)
    return [
      "x": draw.normal(w.height * w.width * w.channels).rounded(to: format ?? .fp32),
      "w": draw.normal(e.outputs * w.depth).rounded(to: format ?? .fp32), "b": draw.normal(e.outputs),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (e, w) = (extents, extents.windows)
    let ordered = o.scratch(e.outputs * w.depth)
    ComputeContext.patchOrder(
      ordered, weight: o.vector("w"), channels: w.channels, outputs: e.outputs, taps: w.rows * w.columns)
    let columns = Matrix(ordered.reading, rows: e.outputs, columns: w.depth).transposed
    let weight = format.map { format in
      let count = ComputeContext.packedElements(depth: w.depth, columns: e.outputs, format: format)
      return context.pack(columns, into: o.scratch(count), as: format)
    }
    let (x, bias, stride) = (o.vector("x"), o.vector("b"), e.outputs + gap)
    let y = o.output("y", w.pixels * stride)
    let scratch = o.scratch(context.patchConvolutionScratch(e))
    return {
      context.patchConvolution(
        output: y, stride: stride, input: x, weight: weight ?? columns, bias: bias, limit: limit, scratch: scratch, e)
      for pixel in 0..<w.pixels { y[pixel * stride + e.outputs..<(pixel + 1) * stride].fill(0) }
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (e, w) = (extents, extents.windows)
    let y = convolved(
      height: w.resultHeight, width: w.resultWidth, channels: w.channels, outputs: e.outputs, stride: w.stride, x["w"],
      x["b"], rows: w.rows, columns: w.columns, pixel: w.pixels(of: x["x"]))
    let cut = limit.map { limit in y.map { min(max($0, 0), Double(limit)) } } ?? y
    let all = (0..<w.pixels).flatMap { cut[$0 * e.outputs..<($0 + 1) * e.outputs] + [Double](repeating: 0, count: gap) }
    return [.near("y", all, .sum(of: w.depth), scale: y.largest)]
  }

  public static var all: [PatchConvolutionCase] {
    let threeByThree = [
      PatchConvolution(height: 7, width: 5, channels: 3, outputs: 70),
      PatchConvolution(height: 6, width: 10, channels: 17, outputs: 5, stride: 2, before: 0, after: 1),
      PatchConvolution(height: 5, width: 2, channels: 4, outputs: 3, stride: 2, before: 0, after: 1),
      PatchConvolution(height: 31, width: 29, channels: 3, outputs: 70, stride: 2),
    ].flatMap { e in ([.fp32, .bf16, nil] as [Format?]).map { PatchConvolutionCase(extents: e, format: $0) } }
    let windows = [
      ImageWindows(height: 9, width: 8, channels: 5, window: (1, 7), padding: (0, 3)),
      ImageWindows(height: 8, width: 3, channels: 33, window: (7, 1), padding: (3, 0)),
      ImageWindows(height: 9, width: 6, channels: 16, window: (5, 5), padding: (2, 2)),
      ImageWindows(height: 11, width: 12, channels: 3, window: (3, 3), stride: 2),
      ImageWindows(height: 7, width: 9, channels: 20, window: (1, 1)),
    ]
    return threeByThree
      + windows.flatMap { w in
        let e = PatchConvolution(w, outputs: 67)
        return [
          PatchConvolutionCase(extents: e, format: .fp32, limit: .infinity, gap: 9),
          PatchConvolutionCase(extents: e, format: .fp32, limit: 1.5), PatchConvolutionCase(extents: e, format: nil),
        ]
      }
  }
}

/// A filter for each channel, or a pool.
public struct WindowCase: KernelCase {
  public enum Kind: Sendable {
    case depthwise(Float)
    case mean, greatest
  }

  let windows: ImageWindows
  let kind: Kind

  public var description: String {
    let w = windows
    return "\(kind): \(w.height)×\(w.width)×\(w.channels) by \(w.rows)×\(w.columns), stride \(w.stride)"
  }
  public var kernels: Set<String> { if case .depthwise = kind { ["depthwise_relu"] } else { ["pool"] } }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    [
      "x": draw.normal(windows.height * windows.width * windows.channels), "w": draw.normal(windows.depth),
      "b": draw.normal(windows.channels),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let (w, x, filters, bias) = (windows, o.vector("x"), o.vector("w"), o.vector("b"))
    let y = o.output("y", w.pixels * w.channels)
    return {
      switch kind {
      case .depthwise(let limit):
        context.depthwiseConvolution(output: y, input: x, filters: filters, bias: bias, limit: limit, w)
      case .mean: context.pool(output: y, input: x, isMean: true, w)
      case .greatest: context.pool(output: y, input: x, isMean: false, w)
      }
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (w, pixel) = (windows, windows.pixels(of: x["x"]))
    var (y, largest): ([Double], Double) = ([], 0)
    for row in 0..<w.resultHeight {
      for column in 0..<w.resultWidth {
        for c in 0..<w.channels {
          var seen: [Double] = []
          var sum = x["b"][c]
          for tap in 0..<w.rows * w.columns {
            guard let values = pixel(row * w.stride + tap / w.columns, column * w.stride + tap % w.columns) else {
              continue
            }
            let value = values[values.startIndex + c]
            seen.append(value)
            sum += value * x["w"][tap * w.channels + c]
          }
          largest = max(largest, abs(sum))
          switch kind {
          case .depthwise(let limit): y.append(min(max(sum, 0), Double(limit)))
          case .mean: y.append(seen.reduce(0, +) / Double(seen.count))
          case .greatest: y.append(seen.max() ?? 0)
          }
        }
      }
    }
    return [.near("y", y, .sum(of: w.rows * w.columns), scale: largest)]
  }

  public static let all = [
    ImageWindows(height: 7, width: 9, channels: 21, window: (3, 3), padding: (1, 1)),
    ImageWindows(height: 8, width: 8, channels: 16, window: (5, 5), stride: 2, padding: (2, 2)),
    ImageWindows(height: 9, width: 7, channels: 5, window: (3, 3), stride: 2),
    ImageWindows(height: 6, width: 4, channels: 40, window: (6, 4)),
    ImageWindows(height: 8, width: 6, channels: 3, side: 3, stride: 2, before: 0, after: 1),
  ].flatMap { w in
    [Kind.depthwise(.infinity), .depthwise(1), .mean, .greatest].map { WindowCase(windows: w, kind: $0) }
  }
}

extension ImageWindows {
  /// The channels of a pixel of the padded image; nil where it is padding.
  fileprivate func pixels(of image: [Double]) -> (Int, Int) -> ArraySlice<Double>? {
    { row, column in
      guard 0..<height ~= row - top, 0..<width ~= column - left else { return nil }
      let pixel = ((row - top) * width + column - left) * channels
      return image[pixel..<pixel + channels]
    }
  }
}

/// Σ w · pixels + b, one loop an index.
///
/// - Parameter pixel: the channels of a pixel of the padded image; nil where it is padding.
private func convolved(
  height: Int, width: Int, channels: Int, outputs: Int, stride: Int = 1, _ w: [Double], _ bias: [Double],
  rows: Int = 3, columns: Int = 3, pixel: (Int, Int) -> ArraySlice<Double>?
) -> [Double] {
  var y: [Double] = []
  for row in 0..<height {
    for column in 0..<width {
      let taps = (0..<rows * columns).map { pixel(row * stride + $0 / columns, column * stride + $0 % columns) }
      for o in 0..<outputs {
        var sum = bias[o]
        for (tap, values) in taps.enumerated() {
          guard let values else { continue }
          for (k, value) in values.enumerated() { sum += value * w[(o * channels + k) * taps.count + tap] }
        }
        y.append(sum)
      }
    }
  }
  return y
}
