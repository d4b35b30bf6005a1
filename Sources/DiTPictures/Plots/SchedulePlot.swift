import DiTDiffusion
import DiTImaging
import DiTModel
import DiTPipeline

/// The picture of a schedule: ᾱ and β over t, and attention's scale and window where they depend on the noise, one below
/// the other, with a stem and a dot per sampling timestep.
public enum SchedulePlot {
  private static let height = 260

  /// - Parameters:
  ///   - noise: the schedule.
  ///   - kept: the steps that are marked.
  ///   - network: for the windows and scales of its attention.
  public static func picture(_ noise: NoiseSchedule, _ kept: SamplingTimesteps, network: DiTConfiguration) -> Image {
    let attention = (0..<noise.steps).map { SamplingTimesteps.Attention(network, noise, at: $0) }
    var plots = [
      plot(
        "alpha-bar: the share of variance that is signal, \(kept.rows.count) of \(noise.steps) steps kept",
        noise.alphasCumprod, kept, .blue),
      plot("beta: the noise that step t adds", noise.betas, kept, .orange),
    ]
    let scales = attention.compactMap { $0.map { Double($0.scale) } }
    if !scales.isEmpty { plots.append(plot("attention: the scale of q.k before a gate", scales, kept, .green)) }
    let windows = attention.compactMap { $0?.window.map(Double.init) }
    if !windows.isEmpty { plots.append(plot("attention: the window k(t), in tokens", windows, kept, .purple)) }
    return .stacked(plots.map { $0.rendered() })
  }

  /// One curve from 0 up, over t.
  private static func plot(_ title: String, _ values: [Double], _ kept: SamplingTimesteps, _ color: PlotColor)
    -> LinePlot
  {
    let steps = kept.rows.map { (x: Double($0.t), y: values[$0.t]) }
    let diameter = min(9, max(3, 500 / Double(steps.count)))
    return LinePlot(
      title: title, xTitle: "t", yCovers: [0],
      series: [
        LinePlot.Series(nil, steps, .stems, thickness: diameter, color: .ink),
        LinePlot.Series(
          nil, values.enumerated().map { (x: Double($0.offset), y: $0.element) }, thickness: 2.5, color: color),
        LinePlot.Series(nil, steps, .dots, thickness: diameter, color: .ink),
      ], height: height)
  }
}
