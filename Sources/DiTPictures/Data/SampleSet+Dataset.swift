import DiTEvaluation
import DiTTraining

extension SampleSet {
  /// Training data in memory as samples to be judged, or to judge by: (C, H, W) each, with their labels.
  ///
  /// - Parameter name: what errors call the set; the data's own by default.
  /// - Precondition: the data are not streamed, as a folder's pictures are that do not fit
  ///   ``PictureOptions/cacheBytes``.
  public init(_ data: Dataset, name: String? = nil) {
    precondition(!data.isStreamed, "\(data.name) is not in memory")
    self.init(
      name: name ?? data.name, shape: [data.channels, data.height, data.width], store: DatasetStore(data: data),
      labels: data.labels)
  }
}

private struct DatasetStore: SampleStore {
  let data: Dataset

  var count: Int { data.count }
  var depth: Int { data.sampleCount }

  func read(from start: Int, into target: inout MutableSpan<Float>) { data.copy(from: start, into: &target) }
}
