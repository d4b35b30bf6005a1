import DiTTensor

/// Writes files as `torch.save` does: a ZIP archive of a pickle and the tensors' storages, atomically, the same bytes for
/// the same input. torch.load reads them with `weights_only=True`, as nothing but dictionaries, tensors and plain values is
/// in them.
public enum TorchWriter {
  /// A value of the file.
  public enum Value: Sendable {
    case none
    case bool(Bool)
    case integer(Int)
    case real(Double)
    case text(String)
    /// A dictionary, in order.
    case dictionary([(key: String, value: Value)])
    /// An OrderedDict of tensors, as a module's `state_dict()` is: names, and places in the list of tensors. A tensor that
    /// stands in several is stored once.
    case stateDict([(name: String, tensor: Int)])
  }

  /// Writes the file at `path`. The tensors are read twice, for their checksums and for their bytes; beside them it takes a
  /// few megabytes of memory.
  ///
  /// - Parameters:
  ///   - root: what is pickled, with places for the tensors.
  ///   - tensors: stored as F32, BF16 or F16; their own names are not used.
  ///   - path: the file.
  /// - Throws: `DiTError`, and what a tensor's source throws. The file at `path` is then as it was before.
  /// - Precondition: every place is one of `tensors`.
  public static func write(_ root: Value, tensors: [TensorSource], to path: String) throws {
    let pickle = PickleWriter.pickle(root, tensors)
    var zip = try ZipWriter(path: path, alignment: alignment)
    try zip.write("\(archive)/data.pkl", pickle)
    try zip.write("\(archive)/byteorder", Array("little".utf8))
    for (index, tensor) in tensors.enumerated() {
      var checksum: UInt32 = 0
      var bytes = TensorBytes(tensor, for: path)
      while try bytes.next() { checksum = Zlib.checksum(bytes.bytes.span, after: checksum) }
      try zip.start("\(archive)/data/\(index)", size: tensor.byteCount, checksum: checksum)
      bytes = TensorBytes(tensor, for: path)
      while try bytes.next() { try zip.write(bytes.bytes.span) }
    }
    try zip.write("\(archive)/version", Array("3\n".utf8))
    try zip.commit()
  }

  /// What torch calls the archive of a file without a name.
  private static let archive = "archive"
  /// As torch aligns storages, so that they can be used where the file is mapped.
  private static let alignment = 64
}

/// A pickle of protocol 2.
private struct PickleWriter {
  private var bytes: [UInt8] = []
  private let tensors: [TensorSource]

  static func pickle(_ root: TorchWriter.Value, _ tensors: [TensorSource]) -> [UInt8] {
    var writer = PickleWriter(tensors)
    writer.put(.proto, [2])
    writer.write(root)
    writer.put(.stop)
    return writer.bytes
  }

  private init(_ tensors: [TensorSource]) { self.tensors = tensors }

  private mutating func write(_ value: TorchWriter.Value) {
    switch value {
    case .none: put(.none)
    case .bool(let isTrue): put(isTrue ? .newTrue : .newFalse)
    case .integer(let number): write(number)
    case .real(let number): put(.binFloat, Self.littleEndian(number.bitPattern.byteSwapped))
    case .text(let text): write(text)
    case .dictionary(let members):
      put(.emptyDictionary)
      put(.mark)
      for member in members {
        write(member.key)
        write(member.value)
      }
      put(.setItems)
    case .stateDict(let items):
      writeOrderedDictionary()
      put(.mark)
      for item in items {
        write(item.name)
        writeTensor(item.tensor)
      }
      put(.setItems)
    }
  }

  private mutating func write(_ number: Int) {
    if let small = UInt8(exactly: number) {
      put(.binInt1, [small])
    } else if let small = Int32(exactly: number) {
      put(.binInt, Self.littleEndian(small))
    } else {
      put(.long1, [8] + Self.littleEndian(number))
    }
  }

  private mutating func write(_ text: String) {
    put(.binUnicode, Self.littleEndian(UInt32(text.utf8.count)) + text.utf8)
  }

  private mutating func writeOrderedDictionary() {
    put(.global, "collections\nOrderedDict\n".utf8)
    put(.emptyTuple)
    put(.reduce)
  }

  /// `_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`.
  private mutating func writeTensor(_ index: Int) {
    let tensor = tensors[index]
    put(.global, "torch._utils\n_rebuild_tensor_v2\n".utf8)
    put(.mark)
    put(.mark)
    write("storage")
    put(.global, "torch\n\(TorchStorageType(tensor.dtype).rawValue)\n".utf8)
    write("\(index)")
    write("cpu")
    write(tensor.shape.reduce(1, *))
    put(.tuple)
    put(.binPersistentID)
    write(0)
    write(tensor.shape)
    let strides = tensor.shape.indices.map { tensor.shape[($0 + 1)...].reduce(1, *) }
    write(strides)
    put(.newFalse)
    writeOrderedDictionary()
    put(.tuple)
    put(.reduce)
  }

  private mutating func write(_ tuple: [Int]) {
    put(.mark)
    for number in tuple { write(number) }
    put(.tuple)
  }

  private mutating func put(_ opcode: PickleOpcode, _ operand: some Sequence<UInt8> = []) {
    bytes.append(opcode.rawValue)
    bytes += operand
  }

  private static func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
    (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }
}

extension TorchStorageType {
  /// - Precondition: F32, BF16 or F16.
  fileprivate init(_ dtype: Dtype) {
    switch dtype {
    case .f32: self = .float
    case .bf16: self = .bfloat16
    case .f16: self = .half
    default: preconditionFailure("a torch file of \(dtype.rawValue)")
    }
  }
}
