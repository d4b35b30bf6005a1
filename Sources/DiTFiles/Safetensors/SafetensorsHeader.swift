import DiTTensor

/// The header of a safetensors file, checked: what the file holds and where.
///
/// A file is eight bytes with the header's length n (little-endian), n bytes of JSON, and the data. Everything that the
/// header claims is checked against the file's size before anybody acts on it:
/// - n is at most 100,000,000 and fits the file; the JSON starts with `{` and may end in spaces;
/// - strings are UTF-8; no key stands twice; a tensor has exactly `dtype`, `shape` and `data_offsets`; `__metadata__`
///   maps strings to strings;
/// - products of extents do not overflow, whatever the order of multiplication, and match the offsets;
/// - the tensors fill the data from its first byte to the file's last, without holes or overlap. Rank 0 and extents of 0
///   are legal.
///
/// Names are compared by their bytes: two that differ only in Unicode normalization are two.
///
/// Source: the format's description, https://github.com/huggingface/safetensors.
public struct SafetensorsHeader: Equatable, Sendable {
  /// A tensor of the file.
  public struct Entry: Equatable, Sendable {
    /// The name.
    public let name: String
    /// The type of the elements.
    public let dtype: Dtype
    /// The extents, outermost first; `[]` for a scalar.
    public let shape: [Int]
    /// Where the elements lie, counted from the start of the file.
    public let byteRange: Range<Int>

    /// The number of elements.
    public var count: Int { shape.reduce(1, *) }
  }

  /// The longest header that the format allows, in bytes.
  public static let maximumLength = 100_000_000
  private static let lengthSize = 8

  /// The pairs under `__metadata__`; of keys that differ in nothing but their normal form the last.
  public let metadata: [String: String]
  /// The tensors in the order of their data.
  public let entries: [Entry]
  private let index: [ExactName: Int]

  /// Reads the header of a file of `fileSize` bytes, of which `bytes` are the first (all of the header at least).
  ///
  /// - Throws: `DiTError`, which names `path`.
  public init(parsing bytes: RawSpan, fileSize: Int, path: String) throws(DiTError) {
    precondition(bytes.byteCount <= fileSize, "\(bytes.byteCount) bytes of a file of \(fileSize)")
    let json = try Self.json(in: bytes, fileSize: fileSize, path: path)
    var scanner = HeaderScanner(json, path: path)
    let claims: [Claim]
    (metadata, claims) = try scanner.header()
    let dataStart = Self.lengthSize + json.count
    entries = try Self.layOut(claims, from: dataStart, dataSize: fileSize - dataStart, path: path)
    index = Dictionary(uniqueKeysWithValues: entries.indices.map { [entries] in (ExactName(entries[$0].name), $0) })
  }

  /// The tensor of that name.
  public func entry(named name: String) -> Entry? {
    index[ExactName(name)].map { entries[$0] }
  }

  /// The header's bytes, its length checked.
  private static func json(in bytes: RawSpan, fileSize: Int, path: String) throws(DiTError) -> [UInt8] {
    func failure(_ problem: SafetensorsProblem) -> DiTError {
      DiTError(file: path, problem: problem)
    }
    guard bytes.byteCount >= lengthSize else { throw failure(.tooShort(size: fileSize)) }
    let length = bytes.extracting(0..<lengthSize).array.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard length <= maximumLength else { throw failure(.headerTooLong(length: length)) }
    let available = bytes.byteCount - lengthSize
    guard length <= available else { throw failure(.headerBeyondFile(length: length, available: available)) }
    let json = bytes.extracting(lengthSize..<lengthSize + Int(length)).array
    guard json.first == UInt8(ascii: "{") else { throw failure(.headerStart(found: json.first)) }
    return json
  }

  /// Checks that the tensors fill `dataSize` bytes one after the other, and places them in the file.
  private static func layOut(
    _ claims: [Claim], from dataStart: Int, dataSize: Int, path: String
  ) throws(DiTError) -> [Entry] {
    let order = claims.indices.sorted {
      (claims[$0].start, claims[$0].end, $0) < (claims[$1].start, claims[$1].end, $1)
    }
    var end = 0
    for claim in order.lazy.map({ claims[$0] }) {
      guard claim.start == end else {
        let problem: SafetensorsProblem =
          claim.start > end
          ? .hole(expectedStart: end, found: claim.start) : .overlap(expectedStart: end, found: claim.start)
        throw DiTError(file: path, tensor: claim.name, problem: problem)
      }
      end = claim.end
    }
    guard end == dataSize else {
      throw DiTError(file: path, problem: .dataSize(expected: end, found: dataSize))
    }
    return order.map {
      let claim = claims[$0]
      let range = dataStart + claim.start..<dataStart + claim.end
      return Entry(name: claim.name, dtype: claim.dtype, shape: claim.shape, byteRange: range)
    }
  }
}

/// What a header says about a tensor: size checked against dtype and shape, place not yet checked.
struct Claim {
  let name: String
  let dtype: Dtype
  let shape: [Int]
  let start: Int
  let end: Int
}

extension HeaderScanner {
  fileprivate mutating func header() throws(DiTError) -> (metadata: [String: String], claims: [Claim]) {
    var metadata: [String: String]?
    var claims: [Claim] = []
    var names: Set<ExactName> = []
    try expect("{")
    var isFirst = true
    while let key = try nextKey(isFirst: isFirst) {
      isFirst = false
      guard names.insert(ExactName(key)).inserted else { throw failure(.duplicateKey(key)) }
      if key == "__metadata__" {
        metadata = try stringPairs()
      } else {
        tensor = key
        claims.append(try claim(key))
        tensor = nil
      }
    }
    try end()
    return (metadata ?? [:], claims)
  }

  private mutating func stringPairs() throws(DiTError) -> [String: String] {
    var pairs: [String: String] = [:]
    var keys: Set<ExactName> = []
    try expect("{")
    var isFirst = true
    while let key = try nextKey(isFirst: isFirst) {
      isFirst = false
      guard keys.insert(ExactName(key)).inserted else { throw failure(.duplicateKey(key)) }
      pairs[key] = try string()
    }
    return pairs
  }

  private mutating func claim(_ name: String) throws(DiTError) -> Claim {
    var dtype: Dtype?
    var shape: [Int]?
    var offsets: (start: Int, end: Int)?
    try expect("{")
    var isFirst = true
    while let field = try nextKey(isFirst: isFirst) {
      isFirst = false
      switch field {
      case "dtype" where dtype == nil: dtype = try self.dtype()
      case "shape" where shape == nil: shape = try integers()
      case "data_offsets" where offsets == nil: offsets = try integerPair()
      case "dtype", "shape", "data_offsets": throw failure(.duplicateKey(field))
      default: throw failure(.unknownField(field))
      }
    }
    guard let dtype else { throw failure(.missingField("dtype")) }
    guard let shape else { throw failure(.missingField("shape")) }
    guard let (start, end) = offsets else { throw failure(.missingField("data_offsets")) }
    guard start <= end else { throw failure(.reversedOffsets(start: start, end: end)) }
    let size = try byteCount(dtype, shape)
    guard size == end - start else {
      throw failure(.sizeMismatch(dtype: dtype, shape: shape, expected: size, found: end - start))
    }
    return Claim(name: name, dtype: dtype, shape: shape, start: start, end: end)
  }

  private mutating func dtype() throws(DiTError) -> Dtype {
    let name = try string()
    guard let dtype = Dtype(rawValue: name) else { throw failure(.unknownDtype(name)) }
    return dtype
  }

  private mutating func integers() throws(DiTError) -> [Int] {
    var values: [Int] = []
    try expect("[")
    while try hasElement(isFirst: values.isEmpty) { values.append(try integer()) }
    return values
  }

  private mutating func integerPair() throws(DiTError) -> (start: Int, end: Int) {
    try expect("[")
    let start = try integer()
    try expect(",")
    let end = try integer()
    try expect("]")
    return (start, end)
  }

  /// The bytes that a tensor takes. Extents of 0 are left out of the checked product, so that multiplying
  /// them in another order does not overflow.
  private func byteCount(_ dtype: Dtype, _ shape: [Int]) throws(DiTError) -> Int {
    var bits = dtype.bitWidth
    for extent in shape where extent != 0 {
      let (product, overflow) = bits.multipliedReportingOverflow(by: extent)
      guard !overflow else { throw failure(.shapeTooLarge(shape: shape)) }
      bits = product
    }
    if shape.contains(0) { return 0 }
    guard bits % 8 == 0 else { throw failure(.partialByte(dtype: dtype, shape: shape)) }
    return bits / 8
  }
}
