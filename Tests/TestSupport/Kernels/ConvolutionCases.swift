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

/// A 3 × 3 convolution through gathered patches, strided or not.
public struct PatchConvolutionCase: KernelCase {
  let extents: PatchConvolution
  /// Nil: OpenBLAS, in float32.
  let format: Format?

  public var description: String {
    let e = extents
    return "\(e.height)×\(e.width)×\(e.channels)→\(e.outputs), stride \(e.stride), "
      + (format.map { "\($0)" } ?? "OpenBLAS")
  }
  public var kernels: Set<String> {
    format == nil ? ["gather_patches", "add_bias"] : ["gather_patches", "pack_transposed", "product"]
  }

  public func draw(_ draw: inout Draw) -> [String: [Float]] {
    let e = extents
    return [
      "x": draw.normal(e.height * e.width * e.channels).rounded(to: format ?? .fp32),
      "w": draw.normal(e.outputs * e.channels * 9).rounded(to: format ?? .fp32), "b": draw.normal(e.outputs),
    ]
  }

  public func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void {
    let e = extents
    let ordered = o.scratch(e.outputs * e.channels * 9)
    ComputeContext.patchOrder(ordered, weight: o.vector("w"), channels: e.channels, outputs: e.outputs)
    let columns = Matrix(ordered.reading, rows: e.outputs, columns: 9 * e.channels).transposed
    let weight = format.map { format in
      let count = ComputeContext.packedElements(depth: 9 * e.channels, columns: e.outputs, format: format)
      return context.pack(columns, into: o.scratch(count), as: format)
    }
    let (x, bias) = (o.vector("x"), o.vector("b"))
    let y = o.output("y", e.resultHeight * e.resultWidth * e.outputs)
    let scratch = o.scratch(context.patchConvolutionScratch(e))
    return {
      context.patchConvolution(output: y, input: x, weight: weight ?? columns, bias: bias, scratch: scratch, e)
    }
  }

  public func expected(_ x: Inputs) -> [Expectation] {
    let (e, image) = (extents, x["x"])
    let y = convolved(
      height: e.resultHeight, width: e.resultWidth, channels: e.channels, outputs: e.outputs, stride: e.stride, x["w"],
      x["b"]
    ) { row, column in
      guard 0..<e.height ~= row - e.before, 0..<e.width ~= column - e.before else { return nil }
      let pixel = ((row - e.before) * e.width + column - e.before) * e.channels
      return image[pixel..<pixel + e.channels]
    }
    return [.near("y", y, .sum(of: 9 * e.channels))]
  }

  public static let all = [
    PatchConvolution(height: 7, width: 5, channels: 3, outputs: 70),
    PatchConvolution(height: 6, width: 10, channels: 17, outputs: 5, stride: 2, before: 0, after: 1),
    PatchConvolution(height: 5, width: 2, channels: 4, outputs: 3, stride: 2, before: 0, after: 1),
    PatchConvolution(height: 31, width: 29, channels: 3, outputs: 70, stride: 2),
  ].flatMap { e in ([.fp32, .bf16, nil] as [Format?]).map { PatchConvolutionCase(extents: e, format: $0) } }
}

/// Σ w · pixels + b, one loop an index.
///
/// - Parameter pixel: the channels of a pixel of the padded image; nil where it is padding.
private func convolved(
  height: Int, width: Int, channels: Int, outputs: Int, stride: Int = 1, _ w: [Double], _ bias: [Double],
  pixel: (Int, Int) -> ArraySlice<Double>?
) -> [Double] {
  var y: [Double] = []
  for row in 0..<height {
    for column in 0..<width {
      let taps = (0..<9).map { pixel(row * stride + $0 / 3, column * stride + $0 % 3) }
      for o in 0..<outputs {
        var sum = bias[o]
        for (tap, values) in taps.enumerated() {
          guard let values else { continue }
          for (k, value) in values.enumerated() { sum += value * w[(o * channels + k) * 9 + tap] }
        }
        y.append(sum)
      }
    }
  }
  return y
}
