import DiTEngine

extension TrainingRequest {
  /// The choices of the keys that take one of several words, one key per line.
  static var choiceTable: String {
    let words: [(String, [String])] = [
      ("family", ModelFamily.allCases.map(\.rawValue)),
      ("position", PositionEncoding.allCases.map(\.rawValue)),
      ("time_frequencies", TimeFrequencies.allCases.map(\.rawValue)),
      ("conditioning", Conditioning.allCases.map(\.rawValue)),
      ("embedders", Embedders.allCases.map(\.rawValue)),
      ("attention.temperature", AttentionConfiguration.Temperature.allCases.map(\.rawValue)),
      ("attention.mask", AttentionConfiguration.Mask.allCases.map(\.rawValue)),
      ("attention.window", AttentionConfiguration.Window.allCases.map(\.rawValue)),
      ("attention.distance", AttentionConfiguration.Distance.allCases.map(\.rawValue)),
      ("diffusion.schedule", BetaSchedule.allCases.map(\.rawValue)),
      ("diffusion.path", DiffusionPath.allCases.map(\.rawValue)),
      ("diffusion.prediction", Prediction.allCases.map(\.rawValue)),
      ("diffusion.variance", Variance.allCases.map(\.rawValue)),
      ("diffusion.network_time", LinearTime.allCases.map(\.rawValue)),
      ("diffusion.loss", LossTerms.allCases.map(\.rawValue)),
      ("sampling.sampler", SamplerName.allCases.map(\.rawValue)),
    ]
    return words.map { key, values in "  \(key)\n      \(values.joined(separator: ", "))" }.joined(separator: "\n")
  }
}
