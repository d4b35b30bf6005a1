import DiTKernels
import DiTTensor

/// An image between layers, the channels innermost.
struct FeatureMap {
  let height, width, channels: Int
  /// (height, width, channels) from here on.
  let values: MutableFloatSlice
  /// Floats from pixel to pixel: more than `channels` where maps are joined.
  let stride: Int

  init(_ height: Int, _ width: Int, _ channels: Int, _ values: MutableFloatSlice, stride: Int? = nil) {
    (self.height, self.width, self.channels, self.values) = (height, width, channels, values)
    self.stride = stride ?? channels
  }
}

/// What a layer sees: `side` rows and columns, or others, with zeros beside the image.
struct WindowShape: Sendable {
  var rows, columns: Int
  var stride = 1
  /// Rows above, rows below; columns to the left, columns to the right. Nil: as many as keep the extents, or ⌈extent / stride⌉ of
  /// them, the odd one behind (TensorFlow's SAME).
  var rowPadding: (before: Int, after: Int)? = (0, 0)
  var columnPadding: (before: Int, after: Int)? = (0, 0)

  /// A square window with equal padding on all sides.
  init(_ side: Int, stride: Int = 1, padding: Int = 0) {
    self.init(side, side, stride: stride, padding: (padding, padding))
  }

  init(_ rows: Int, _ columns: Int, stride: Int = 1, padding: (rows: Int, columns: Int)) {
    (self.rows, self.columns, self.stride) = (rows, columns, stride)
    rowPadding = (padding.rows, padding.rows)
    columnPadding = (padding.columns, padding.columns)
  }

  /// TensorFlow's SAME padding.
  static func same(_ side: Int, stride: Int) -> WindowShape {
    var shape = WindowShape(side, stride: stride)
    (shape.rowPadding, shape.columnPadding) = (nil, nil)
    return shape
  }

  func windows(height: Int, width: Int, channels: Int) -> ImageWindows {
    func padding(_ stated: (before: Int, after: Int)?, _ extent: Int, _ side: Int) -> (before: Int, after: Int) {
      if let stated { return stated }
      let all = max(0, ((extent + stride - 1) / stride - 1) * stride + side - extent)
      return (all / 2, all - all / 2)
    }
    var windows = ImageWindows(
      height: height, width: width, channels: channels, window: (rows, columns), stride: stride)
    (windows.top, windows.bottom) = padding(rowPadding, height, rows)
    (windows.left, windows.right) = padding(columnPadding, width, columns)
    return windows
  }
}

/// A convolution with its batch normalization folded into weights and bias, and ReLU.
struct ConvolutionUnit: Sendable {
  let shape: WindowShape
  let channels, outputs: Int
  /// wᵀ in panels.
  let weight: Matrix
  let bias: FloatSlice
  /// Of ReLU; nil without one.
  let limit: Float?
}

/// A filter for each channel with its batch normalization folded in, and ReLU.
struct DepthwiseUnit: Sendable {
  let shape: WindowShape
  let channels: Int
  /// (rows, columns, channels).
  let filters: FloatSlice
  let bias: FloatSlice
  let limit: Float
}

/// A layer, or several on the same input whose results are joined.
enum FeatureStep: Sendable {
  case convolution(ConvolutionUnit)
  case depthwise(DepthwiseUnit)
  /// The mean or the greatest of the pixels that lie in the image.
  case pool(WindowShape, isMean: Bool)
  case split([ConvolutionUnit])

  func channels(of input: Int) -> Int {
    switch self {
    case .convolution(let unit): unit.outputs
    case .split(let units): units.reduce(0) { $0 + $1.outputs }
    case .depthwise, .pool: input
    }
  }

  func extents(of height: Int, _ width: Int) -> (height: Int, width: Int) {
    let shape =
      switch self {
      case .convolution(let unit): unit.shape
      case .split(let units): units[0].shape
      case .depthwise(let unit): unit.shape
      case .pool(let shape, _): shape
      }
    let windows = shape.windows(height: height, width: width, channels: 1)
    return (windows.resultHeight, windows.resultWidth)
  }
}

/// Branches on the same input whose results are joined; of one branch, the input may be added to its result.
struct FeatureBlock: Sendable {
  let branches: [[FeatureStep]]
  var addsInput = false
  /// What is taken from its result; nil for nothing.
  var output: FeatureOutput?
}
