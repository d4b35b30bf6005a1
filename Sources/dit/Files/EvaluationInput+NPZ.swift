import DiTEngine
import DiTNumpy

extension EvaluationInput {
  /// Reads an .npz archive as evaluators exchange them: images under `arr_0`, |u1 (N, H, W, C), with labels (N) under
  /// `arr_1`; statistics, `mu` (d) and `sigma` (d, d), and of Inception's spatial features `mu_s` and `sigma_s`; or both.
  ///
  /// - Throws: `DiTError` or ``Failure`` (65).
  init(npz path: String) throws {
    let file = try NPZFile(contentsOf: path)
    let statistics = try Statistics(file, "mu", "sigma")
    let spatial = try Statistics(file, "mu_s", "sigma_s")
    if let images = try file.images("arr_0") {
      var set = try SampleSet(images, labels: file.array("arr_1"), path: path)
      if statistics != nil {
        set.note = "\(path): has images and statistics: in pixels the images count, in a network's features both"
      }
      self = .samples(set, statistics: statistics, spatial: spatial)
    } else if let statistics {
      self = .statistics(statistics, spatial: spatial)
    } else {
      let names = file.names.prefix(8).joined(separator: ", ")
      throw Failure.input(
        path, "archive", expected: "arr_0 (images), or mu and sigma", found: names.isEmpty ? "nothing" : names)
    }
  }
}

extension Statistics {
  /// Those under two names of an archive; nil where it has neither.
  fileprivate init?(_ file: NPZFile, _ mean: String, _ covariance: String) throws {
    guard let mu = try file.array(mean), let sigma = try file.array(covariance) else {
      let given = [mean, covariance].filter(file.names.contains)
      guard given.isEmpty else {
        throw Failure.input(file.path, "archive", expected: "both \(mean) and \(covariance)", found: given[0])
      }
      return nil
    }
    guard mu.shape.count == 1, mu.shape[0] > 0, sigma.shape == [mu.shape[0], mu.shape[0]] else {
      throw Failure.input(
        file.path, "\(mean) and \(covariance)", expected: "(d) and (d, d)", found: "\(mu.shape) and \(sigma.shape)")
    }
    try self.init(name: file.path, mean: mu.doubles(), covariance: sigma.doubles(), keys: (mean, covariance))
  }
}

extension SampleSet {
  fileprivate init(_ images: NPZImages, labels: NPYArray?, path: String) throws {
    if let labels, labels.shape != [images.count] {
      throw Failure.input(
        path, "entry arr_1.npy", expected: "(\(images.count)), one per sample", found: "\(labels.shape)")
    }
    self.init(
      name: path, shape: [images.channels, images.height, images.width], store: ImagesStore(images: images),
      labels: try labels?.integers())
  }
}

/// An archive's pictures, read as x/127.5 − 1 where they lie.
private struct ImagesStore: SampleStore {
  let images: NPZImages

  var count: Int { images.count }
  var depth: Int { images.size }

  func read(from start: Int, into target: inout MutableSpan<Float>) {
    var pixels = [UInt8](repeating: 0, count: depth)
    for place in 0..<target.count / depth {
      var span = pixels.mutableSpan
      images.copy(start + place, into: &span)
      for i in pixels.indices { target[place * depth + i] = Pixels.value(Float(pixels[i])) }
    }
  }

  func releasePages() { images.releasePages() }
}
