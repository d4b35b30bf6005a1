import DiTImaging
import DiffusionTransformers
import Foundation

/// The newest validation's loss by patch and t: DIR/loss_map.png and, the same in numbers, DIR/loss_map.safetensors.
struct LossMap {
  let map: PatchLossMap
  /// Whose weights it is of.
  let step: Int

  /// A heat map a bin of t, from the least noisy, in one logarithmic scale.
  var picture: Image {
    let panels = (0..<map.bins).map { bin in
      let (times, means) = (map.times(ofBin: bin), map.means(ofBin: bin))
      return HeatMapPlot.Panel(caption: "t \(times.lowerBound)-\(times.upperBound)", values: means)
    }
    return HeatMapPlot(
      title: "mse by patch and t after step \(step)", panels: panels, rows: map.rows, columns: map.columns,
      scale: .logarithmic
    ).rendered()
  }

  /// `mse` (bins, rows, columns), NaN where a bin has no sample; `samples` (bins); `t` (bins + 1), where the bins begin,
  /// and T.
  var tensors: [TensorSource] {
    let means = (0..<map.bins).flatMap { map.means(ofBin: $0).map(Float.init) }
    let starts = (0..<map.bins).map { map.times(ofBin: $0).lowerBound } + [map.steps]
    return [
      TensorSource("mse", Tensor(shape: [map.bins, map.rows, map.columns], elements: means)),
      TensorSource("samples", map.counts), TensorSource("t", starts),
    ]
  }

  /// - Throws: ``Failure`` (1).
  func write(to directory: String, picture: Image) throws(Failure) {
    let numbers = try OutputFile("\(directory)/loss_map.safetensors", .safetensors)
    try numbers.write(tensors, metadata: ["step": "\(step)"])
    let file = try OutputFile("\(directory)/loss_map.png", .png)
    try file.saving { try picture.writePNG(to: file.path, text: [(key: "Software", value: "dit")]) }
  }
}
