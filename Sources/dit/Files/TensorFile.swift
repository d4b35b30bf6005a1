import DiTEngine

/// An input of named tensors (safetensors). Tensors that a command does not ask for are ignored.
///
/// Everything thrown is a ``Failure`` of status 65 that names the file and the tensor, or an error of the file
/// reader, which does the same.
struct TensorFile {
  let file: SafetensorsFile

  init(_ path: String) throws {
    file = try SafetensorsFile(contentsOf: path)
  }

  func contains(_ name: String) -> Bool { file.entry(named: name) != nil }

  /// Images or noise, (N, C, H, W).
  func images(_ name: String) throws -> Tensor { try require(file.tensor(name), name) }

  /// Images, (N, C, H, W); bytes are read as x/127.5 − 1.
  func imagesOrBytes(_ name: String) throws -> Tensor {
    guard try file.requireEntry(named: name).dtype == .u8 else { return try images(name) }
    let bytes = try require(file.numbers(name), name)
    return Tensor(shape: bytes.shape, elements: bytes.elements.map { Pixels.value($0) })
  }

  /// One real number per sample, (N).
  func numbers(_ name: String) throws -> [Float] {
    let tensor = try file.numbers(name)
    try requireList(name, tensor.shape)
    return tensor.elements
  }

  /// One whole number per sample, (N): classes, timesteps.
  func integers(_ name: String) throws -> [Int] {
    let (shape, values) = try file.integers(name)
    try requireList(name, shape)
    return values
  }

  /// What conditions the samples of a model beside their classes: `captions` or `context`; nil where the file has none, or
  /// the model takes none.
  func sequence(for model: ModelConfiguration, count: Int) throws -> ConditioningSequence? {
    switch model.network.sequence {
    case .text? where contains("captions"):
      let captions = try Captions(file, count: count)
      return .texts((0..<count).map { captions[$0] })
    case .image? where contains("context"): return .images(try images("context"))
    default: return nil
    }
  }

  /// Calls `body`, which uses what was read: tensors that it refuses are reported as this file's.
  ///
  /// - Parameter names: what the library calls a tensor that the file calls otherwise.
  func attributingErrors<Result>(
    _ names: [String: String] = ["prompt": "captions"], for body: () throws -> Result
  ) throws -> Result {
    do {
      return try body()
    } catch let error as DiTError {
      throw error.attributed(to: file.path, names)
    }
  }

  private func require(_ tensor: Tensor, _ name: String) throws(Failure) -> Tensor {
    guard tensor.shape.count == 4 else {
      throw .input(file.path, "tensor \(name)", expected: "(N, C, H, W)", found: "shape \(tensor.shape)")
    }
    return tensor
  }

  private func requireList(_ name: String, _ shape: [Int]) throws(Failure) {
    guard shape.count == 1 else {
      throw .input(file.path, "tensor \(name)", expected: "(N)", found: "shape \(shape)")
    }
  }
}

extension DiTError {
  /// A tensor that the library refused as one of the file at `path`, where `names` says what the library calls otherwise than
  /// the file; every other error as it is.
  func attributed(to path: String, _ names: [String: String] = [:]) -> DiTError {
    guard kind == .argument, let argument else { return self }
    return about(file: path, .tensor(names[argument] ?? argument), .content)
  }
}
