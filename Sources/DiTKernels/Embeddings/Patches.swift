// Images ↔ rows of patches, for patches of P × P in row-major order.
//
//   image (samples, channels, height, width)       patches (samples · L, P² · channels), L = (height/P)(width/P)
//
// The two ends of the published DiT order a patch differently: the input is a convolution's (c, row, column), the output
// is (row, column, c).

/// The order of elements inside a patch.
public enum PatchOrder: Sendable {
  /// c, row, column: the patch embedding's weight [D, C, P, P].
  case channelFirst
  /// row, column, c: the final layer's output.
  case channelLast
}

/// The extents of images and of the patches they are cut into.
public struct PatchGrid: Equatable, Sendable {
  public let channels, height, width, patchSize: Int

  /// - Precondition: `patchSize` divides both extents.
  public init(channels: Int, height: Int, width: Int, patchSize: Int) {
    precondition(
      patchSize > 0 && height % patchSize == 0 && width % patchSize == 0 && channels > 0,
      "\(channels)×\(height)×\(width) cannot be cut into patches of \(patchSize)")
    self.channels = channels
    self.height = height
    self.width = width
    self.patchSize = patchSize
  }

  public var rows: Int { height / patchSize }
  public var columns: Int { width / patchSize }
  /// L.
  public var tokens: Int { rows * columns }
  /// P² C.
  public var patchElements: Int { patchSize * patchSize * channels }

  /// Where element (channel, row, column) of an image lies in the patch matrix.
  @inline(__always) func patchIndex(_ channel: Int, _ row: Int, _ column: Int, _ order: PatchOrder) -> Int {
    let token = row / patchSize * columns + column / patchSize
    let (r, c) = (row % patchSize, column % patchSize)
    let inside =
      switch order {
      case .channelFirst: (channel * patchSize + r) * patchSize + c
      case .channelLast: (r * patchSize + c) * channels + channel
      }
    return token * patchElements + inside
  }
}

/// patches ← images.
public func patchify(
  patches: consuming MutableSpan<Float>, images: Span<Float>, samples: Int, grid: PatchGrid, order: PatchOrder
) {
  let imageElements = grid.channels * grid.height * grid.width
  check(min(patches.count, images.count), atLeast: samples * imageElements, "patches")
  for sample in 0..<samples {
    var index = sample * imageElements
    for channel in 0..<grid.channels {
      for row in 0..<grid.height {
        for column in 0..<grid.width {
          patches[sample * imageElements + grid.patchIndex(channel, row, column, order)] = images[index]
          index += 1
        }
      }
    }
  }
}

/// images ← patches.
public func unpatchify(
  images: consuming MutableSpan<Float>, patches: Span<Float>, samples: Int, grid: PatchGrid, order: PatchOrder
) {
  let imageElements = grid.channels * grid.height * grid.width
  check(min(patches.count, images.count), atLeast: samples * imageElements, "patches")
  for sample in 0..<samples {
    var index = sample * imageElements
    for channel in 0..<grid.channels {
      for row in 0..<grid.height {
        for column in 0..<grid.width {
          images[index] = patches[sample * imageElements + grid.patchIndex(channel, row, column, order)]
          index += 1
        }
      }
    }
  }
}
