import DiTTensor

/// How pictures become a network's input: what they are resized by, and what stands for black and white.
public enum PictureResize: String, CaseIterable, Sendable {
  /// pytorch-fid: bilinear between pixel centers, without a filter against aliasing; 2 x / 255 − 1.
  case pytorchFID = "pytorch-fid"
  /// torch-fidelity, and TensorFlow 1's original: bilinear between pixels' upper left corners; (x − 128) / 128.
  case torchFidelity = "torch-fidelity"
  /// clean-fid: Pillow's bicubic, wider where it shrinks, in floats and cut to 0 … 255; (x − 128) / 128.
  case cleanFID = "clean-fid"
  /// EfficientNet-Lite's: bicubic as clean-fid's of the picture's middle, its shorter side 256 for 224; (x − 127) / 128.
  case efficientNetLite = "efficientnet-lite"

  /// The pictures that a size makes of another: weights of the old pixels for each new one, an axis at a time.
  struct Axis: Sendable {
    /// The first old pixel of each new one.
    let first: [Int]
    /// Of each new one, from the first on; all of one length, padded with zeros.
    let weights: [Float]
    let taps: Int

    /// - Parameters:
    ///   - start: where in the old pixels the first new one begins.
    ///   - scale: old pixels to a new one.
    init(_ resize: PictureResize, old: Int, new: Int, start: Double = 0, scale: Double) {
      var rows: [[(Int, Double)]] = []
      for index in 0..<new {
        switch resize {
        case .pytorchFID, .torchFidelity:
          let shift = resize == .pytorchFID ? 0.5 : 0
          // In Float, as both compute it.
          let place = max(0, (Float(index) + Float(shift)) * Float(scale) - Float(shift))
          let low = min(Int(place), old - 1)
          let part = Double(place - Float(low))
          rows.append([(low, 1 - part), (min(low + 1, old - 1), part)])
        case .cleanFID, .efficientNetLite:
          let (width, center) = (max(1, scale), start + (Double(index) + 0.5) * scale)
          let low = max(0, Int(center - 2 * width + 0.5))
          let high = min(old, Int(center + 2 * width + 0.5))
          let values = (low..<high).map { Self.cubic((Double($0) - center + 0.5) / width) }
          let sum = values.reduce(0, +)
          rows.append(zip(low..<high, values).map { ($0, $1 / sum) })
        }
      }
      let taps = rows.reduce(1) { max($0, $1.count) }
      self.taps = taps
      first = rows.map { min($0[0].0, old - min(taps, old)) }
      var weights = [Float](repeating: 0, count: new * taps)
      for (index, row) in rows.enumerated() {
        for (place, weight) in row { weights[index * taps + place - first[index]] += Float(weight) }
      }
      self.weights = weights
    }

    /// Keys' cubic with a = −½.
    private static func cubic(_ x: Double) -> Double {
      let x = abs(x)
      if x < 1 { return (1.5 * x - 2.5) * x * x + 1 }
      return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0
    }
  }

  /// What a size needs: the same for all its pictures.
  struct Axes: Sendable {
    let resize: PictureResize
    let height, width, side: Int
    let down, across: Axis

    /// Writes a picture, (channels, height, width) in 0 … 255, of 1 or 3 channels, at a network's size and in its range: (side, side, 3).
    func write(_ picture: Span<Float>, channels: Int, into target: inout MutableSpan<Float>) {
      var rows = [Float](repeating: 0, count: height * side)
      for channel in 0..<channels {
        let plane = channel * height * width
        for y in 0..<height {
          for x in 0..<side {
            var sum: Float = 0
            for tap in 0..<across.taps where across.first[x] + tap < width {
              sum += across.weights[x * across.taps + tap] * picture[plane + y * width + across.first[x] + tap]
            }
            rows[y * side + x] = sum
          }
        }
        for y in 0..<side {
          for x in 0..<side {
            var sum: Float = 0
            for tap in 0..<down.taps where down.first[y] + tap < height {
              sum += down.weights[y * down.taps + tap] * rows[(down.first[y] + tap) * side + x]
            }
            let value = resize.ranged(sum)
            let place = (y * side + x) * 3
            if channels == 1 {
              for other in 0..<3 { target[place + other] = value }
            } else {
              target[place + channel] = value
            }
          }
        }
      }
    }
  }

  func axes(height: Int, width: Int, side: Int) -> Axes {
    let across: Axis
    let down: Axis
    if self == .efficientNetLite {
      // The middle square of side · 256 / 224.
      let scale = Double(min(height, width)) / Double(side + 32)
      let margin = (Double(width) - scale * Double(side)) / 2
      let top = (Double(height) - scale * Double(side)) / 2
      across = Axis(self, old: width, new: side, start: margin, scale: scale)
      down = Axis(self, old: height, new: side, start: top, scale: scale)
    } else {
      across = Axis(self, old: width, new: side, scale: Double(width) / Double(side))
      down = Axis(self, old: height, new: side, scale: Double(height) / Double(side))
    }
    return Axes(resize: self, height: height, width: width, side: side, down: down, across: across)
  }

  private func ranged(_ value: Float) -> Float {
    switch self {
    case .pytorchFID: 2 * (value / 255) - 1
    case .torchFidelity: (value - 128) / 128
    case .cleanFID: (min(max(value, 0), 255) - 128) / 128
    case .efficientNetLite: (min(max(value, 0), 255) - 127) / 128
    }
  }
}
