import DiffusionTransformers

/// An array of an .npz archive: of type |u1, <i4, <i8, <f4 or <f8.
struct NPYArray {
  /// numpy's name of the element type.
  let type: String
  let shape: [Int]
  /// Whether the first extent runs fastest.
  let isFortran: Bool
  private let bytes: [UInt8]
  private let start: Int
  private let path, item: String

  private static let sizes = ["|u1": 1, "<i4": 4, "<i8": 8, "<f4": 4, "<f8": 8]

  /// Reads the .npy format: magic, version, a Python dictionary, the elements.
  ///
  /// - Parameters:
  ///   - item: what errors call the array, as in `entry mu.npy`.
  /// - Throws: ``Failure`` (65).
  init(_ bytes: [UInt8], item: String, path: String) throws(Failure) {
    func failure(_ expected: String, _ found: String) -> Failure {
      .input(path, item, expected: expected, found: found)
    }
    guard bytes.count >= 12, Array(bytes[..<6]) == [0x93] + Array("NUMPY".utf8), 1...3 ~= bytes[6] else {
      throw failure("an array of the .npy format, version 1 to 3", "something else")
    }
    let isLong = bytes[6] > 1
    let length = (0..<(isLong ? 4 : 2)).reduce(0) { $0 | Int(bytes[8 + $1]) << (8 * $1) }
    let first = isLong ? 12 : 10
    guard length <= min(bytes.count - first, 1 << 16) else {
      throw failure("a header of at most \(min(bytes.count - first, 1 << 16)) bytes", "\(length)")
    }
    let header = String(decoding: bytes[first..<first + length], as: UTF8.self)
    guard
      let type = header.firstMatch(of: /'descr':\s*'([^']{1,20})'/)?.1,
      let order = header.firstMatch(of: /'fortran_order':\s*(True|False)/)?.1,
      let extents = header.firstMatch(of: /'shape':\s*\(([0-9, ]*)\)/)?.1
    else { throw failure("a header with descr, fortran_order and shape", "another") }
    guard let size = Self.sizes[String(type)] else {
      throw failure("elements of type |u1, <i4, <i8, <f4 or <f8", String(type))
    }
    let shape = extents.split(separator: ",").map { Int($0.filter { $0 != " " }) ?? -1 }
    var count = 1
    for extent in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard extent >= 0, !overflow else { throw failure("a shape that fits the address space", "(\(extents))") }
      count = product
    }
    let found = bytes.count - first - length
    guard count <= found / size, count * size == found else {
      throw failure("the bytes of (\(extents)) elements of type \(type)", "\(found) bytes")
    }
    (self.type, self.shape, isFortran) = (String(type), shape, order == "True")
    (self.bytes, start, self.path, self.item) = (bytes, first + length, path, item)
  }

  /// The elements as real numbers.
  ///
  /// - Throws: ``Failure`` (65) for whole numbers.
  func doubles() throws(Failure) -> [Double] {
    switch type {
    case "<f8": (0..<count).map { Double(bitPattern: pattern($0, 8)) }
    case "<f4": (0..<count).map { Double(Float(bitPattern: UInt32(truncatingIfNeeded: pattern($0, 4)))) }
    default: throw .input(path, item, expected: "elements of type <f8 or <f4", found: type)
    }
  }

  /// The elements as whole numbers.
  ///
  /// - Throws: ``Failure`` (65) for others.
  func integers() throws(Failure) -> [Int] {
    switch type {
    case "<i8": (0..<count).map { Int(truncatingIfNeeded: pattern($0, 8)) }
    case "<i4": (0..<count).map { Int(Int32(truncatingIfNeeded: pattern($0, 4))) }
    case "|u1": (0..<count).map { Int(bytes[start + $0]) }
    default: throw .input(path, item, expected: "elements of type <i8, <i4 or |u1", found: type)
    }
  }

  /// Bytes (N, H, W, C) as images (N, C, H, W).
  ///
  /// - Throws: ``Failure`` (65) for another type, order or number of extents.
  func planarImages() throws(Failure) -> (shape: [Int], bytes: [UInt8]) {
    guard type == "|u1", !isFortran, shape.count == 4, count > 0 else {
      let found = "\(type) \(shape)\(isFortran ? ", Fortran order" : "")"
      throw .input(path, item, expected: "|u1 (N, H, W, C), none of them 0", found: found)
    }
    let (area, channels) = (shape[1] * shape[2], shape[3])
    var planar = [UInt8](repeating: 0, count: count)
    for image in 0..<shape[0] {
      let first = image * area * channels
      for channel in 0..<channels {
        for pixel in 0..<area {
          planar[first + channel * area + pixel] = bytes[start + first + pixel * channels + channel]
        }
      }
    }
    return ([shape[0], channels, shape[1], shape[2]], planar)
  }

  private var count: Int { shape.reduce(1, *) }

  /// Little-endian bits of an element.
  private func pattern(_ index: Int, _ size: Int) -> UInt64 {
    (0..<size).reduce(0) { $0 | UInt64(bytes[start + index * size + $1]) << UInt64(8 * $1) }
  }
}

/// An .npz archive as evaluators exchange them: images under `arr_0` with labels under `arr_1`, or statistics, `mu` and
/// `sigma`.
struct NPZReader {
  private let archive: Archive

  /// - Throws: `FileError` or ``Failure`` (65).
  init(_ path: String) throws { archive = try Archive(path) }

  /// - Throws: `FileError`, ``Failure`` (65) or `EvaluationError`.
  func evaluationInput(name: String) throws -> EvaluationInput {
    if let images = try array("arr_0") { return .samples(try samples(images, name)) }
    guard let mu = try array("mu"), let sigma = try array("sigma") else {
      let names = archive.entries.prefix(8).map(\.name).joined(separator: ", ")
      throw Failure.input(
        archive.path, "archive", expected: "arr_0 (images), or mu and sigma", found: names.isEmpty ? "nothing" : names)
    }
    guard mu.shape.count == 1, mu.shape[0] > 0, sigma.shape == [mu.shape[0], mu.shape[0]] else {
      throw Failure.input(
        archive.path, "mu and sigma", expected: "(d) and (d, d)", found: "\(mu.shape) and \(sigma.shape)")
    }
    return .statistics(try Statistics(name: name, mean: mu.doubles(), covariance: sigma.doubles()))
  }

  private func samples(_ images: NPYArray, _ name: String) throws(Failure) -> SampleSet {
    let (shape, bytes) = try images.planarImages()
    let labels = try array("arr_1")
    if let labels, labels.shape != [shape[0]] {
      throw .input(archive.path, "entry arr_1.npy", expected: "(\(shape[0])), one a sample", found: "\(labels.shape)")
    }
    return SampleSet(
      name: name, shape: Array(shape.dropFirst()),
      store: ByteStore(depth: shape.dropFirst().reduce(1, *), bytes: bytes), labels: try labels?.integers())
  }

  private func array(_ name: String) throws(Failure) -> NPYArray? {
    guard let entry = archive.entries.first(where: { $0.name == "\(name).npy" }) else { return nil }
    return try NPYArray(archive.bytes(entry), item: "entry \(entry.name)", path: archive.path)
  }
}
