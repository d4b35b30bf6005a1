import DiTEvaluation
import DiTFiles
import DiTTensor
import DiTTraining

extension SampleSet {
  /// Training data as samples to be judged, or to judge by: (C, H, W) each, with their labels. Streamed pictures are decoded each
  /// time that they are looked at.
  ///
  /// - Parameters:
  ///   - data: images or latents.
  ///   - name: what errors call the set; the data's own by default.
  public init(_ data: Dataset, name: String? = nil) {
    let store: any SampleStore =
      if let source = data.source { SourceStore(source: source) } else { DatasetStore(data: data) }
    self.init(
      name: name ?? data.name, shape: [data.channels, data.height, data.width], store: store, labels: data.labels)
  }
}

private struct DatasetStore: SampleStore {
  let data: Dataset

  var count: Int { data.count }
  var depth: Int { data.sampleCount }

  func read(from start: Int, into target: inout MutableSpan<Float>) { data.copy(from: start, into: &target) }
}

private struct SourceStore: SampleStore {
  let source: any ImageSource

  var count: Int { source.count }
  var depth: Int { source.channels * source.height * source.width }

  func read(from start: Int, into target: inout MutableSpan<Float>) throws(DiTError) {
    var pixels = [UInt8](repeating: 0, count: depth)
    for place in 0..<target.count / depth {
      var span = pixels.mutableSpan
      try source.read(start + place, into: &span)
      for i in pixels.indices { target[place * depth + i] = Pixels.value(Float(pixels[i])) }
    }
  }
}
