import DiTEngine
import DiTNumpy

extension EvaluationInput {
  /// Reads an .npz archive as evaluators exchange them: images under `arr_0`, |u1 (N, H, W, C), with labels (N) under
  /// `arr_1`; or statistics, `mu` (d) and `sigma` (d, d). Of an archive with both the images count, as a note says.
  ///
  /// - Throws: `DiTError` or ``Failure`` (65).
  init(npz path: String) throws {
    let file = try NPZFile(contentsOf: path)
    if let images = try file.array("arr_0") {
      var set = try SampleSet(images, labels: file.array("arr_1"), path: path)
      let others = ["mu", "sigma"].filter(file.names.contains)
      if !others.isEmpty {
        set.note = "\(path): has arr_0 and \(others.joined(separator: ", ")); used are the images, arr_0"
      }
      self = .samples(set)
      return
    }
    guard let mu = try file.array("mu"), let sigma = try file.array("sigma") else {
      let names = file.names.prefix(8).joined(separator: ", ")
      throw Failure.input(
        path, "archive", expected: "arr_0 (images), or mu and sigma", found: names.isEmpty ? "nothing" : names)
    }
    guard mu.shape.count == 1, mu.shape[0] > 0, sigma.shape == [mu.shape[0], mu.shape[0]] else {
      throw Failure.input(
        path, "mu and sigma", expected: "(d) and (d, d)", found: "\(mu.shape) and \(sigma.shape)")
    }
    self = .statistics(try Statistics(name: path, mean: mu.doubles(), covariance: sigma.doubles()))
  }
}

extension SampleSet {
  fileprivate init(_ images: NPYArray, labels: NPYArray?, path: String) throws {
    let (shape, bytes) = try images.channelsFirst()
    if let labels, labels.shape != [shape[0]] {
      throw Failure.input(
        path, "entry arr_1.npy", expected: "(\(shape[0])), one per sample", found: "\(labels.shape)")
    }
    self.init(
      name: path, shape: Array(shape.dropFirst()),
      store: ByteStore(depth: shape.dropFirst().reduce(1, *), bytes: bytes), labels: try labels?.integers())
  }
}
