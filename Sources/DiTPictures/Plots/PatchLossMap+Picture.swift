import DiTFiles
import DiTImaging
import DiTTensor
import DiTTraining

extension PatchLossMap {
  /// One heat map per bin of t, from the least noisy, all in one logarithmic scale.
  ///
  /// - Parameter step: whose weights were measured, for the title.
  public func picture(afterStep step: Int) -> Image {
    let panels = (0..<bins).map { bin in
      let (times, means) = (self.times(ofBin: bin), self.means(ofBin: bin))
      return HeatMapPlot.Panel(caption: "t \(times.lowerBound)-\(times.upperBound)", values: means)
    }
    return HeatMapPlot(
      title: "mse by patch and t after step \(step)", panels: panels, rows: rows, columns: columns,
      scale: .logarithmic
    ).rendered()
  }

  /// The map in numbers: `mse` (bins, rows, columns), NaN where a bin has no sample; `samples` (bins); `t` (bins + 1),
  /// where the bins begin, and T.
  public var tensors: [TensorSource] {
    let means = (0..<bins).flatMap { self.means(ofBin: $0).map(Float.init) }
    let starts = (0..<bins).map { times(ofBin: $0).lowerBound } + [steps]
    return [
      TensorSource("mse", Tensor(shape: [bins, rows, columns], elements: means)),
      TensorSource("samples", shape: [counts.count], integers: counts),
      TensorSource("t", shape: [starts.count], integers: starts),
    ]
  }
}
