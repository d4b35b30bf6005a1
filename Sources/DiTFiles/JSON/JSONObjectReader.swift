import DiTTensor

/// Takes the keys of a JSON object one by one; ``finish()`` refuses those that were not taken.
///
/// Each method returns nil for a key that is absent and throws for one of another type, so that a reader's code reads
/// as the list of keys with their defaults.
public struct JSONObjectReader {
  /// The file, for errors.
  public let file: String
  /// The section's dotted name; empty at the root.
  public let path: String
  private var members: [String: JSONValue] = [:]
  /// In the order of the file.
  private var keys: [String] = []
  private var known: [String] = []

  /// The members of `value`.
  ///
  /// - Throws: `DiTError` when it is not an object.
  public init(_ value: JSONValue, file: String, path: String = "") throws(DiTError) {
    guard case .object(let members) = value else {
      throw DiTError(file: file, key: path, expected: "an object", found: value.summary)
    }
    self.file = file
    self.path = path
    for member in members {
      self.members[member.key] = member.value
      keys.append(member.key)
    }
  }

  /// The object in the file at `path`.
  ///
  /// - Throws: `DiTError`.
  public init(contentsOf path: String) throws {
    try self.init(JSONValue(contentsOf: path), file: path)
  }

  /// The keys that were not taken.
  package var names: Set<String> { Set(members.keys) }

  /// The error that `key` of this section has a wrong value.
  public func failure(_ key: String, expected: String, found: String) -> DiTError {
    DiTError(file: file, key: dotted(key), expected: expected, found: found)
  }

  /// An `error` about a value that was read from `key`, as one of this section.
  package func attributing(_ error: DiTError, to key: String) -> DiTError {
    error.about(file: file, .key(dotted(key)), .configuration)
  }

  /// The key with its section.
  package func dotted(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  /// Throws unless all keys were taken.
  public func finish() throws(DiTError) {
    guard let unknown = keys.first(where: { members[$0] != nil }) else { return }
    throw failure(unknown, expected: "one of the keys \(known.joined(separator: ", "))", found: "an unknown key")
  }

  /// All keys that were not taken, in the order of the file.
  package mutating func rest() -> [JSONMember] {
    keys.compactMap { key in members.removeValue(forKey: key).map { JSONMember(key, $0) } }
  }

  // MARK: Values

  /// The value of any type.
  public mutating func value(_ key: String) -> JSONValue? {
    known.append(key)
    return members.removeValue(forKey: key)
  }

  /// A key's value before it is read; nil where there is none.
  package func peek(_ key: String) -> JSONValue? { members[key] }

  /// Makes a key absent that has this value, where that is another spelling of being absent.
  package mutating func remove(_ key: String, if value: JSONValue) {
    if members[key] == value { members[key] = nil }
  }

  /// A whole number, written without fraction or exponent.
  public mutating func integer(
    _ key: String, in range: ClosedRange<Int> = Int.min...Int.max
  ) throws(DiTError) -> Int? {
    guard let value = value(key) else { return nil }
    guard case .integer(let number) = value else {
      throw failure(key, expected: "a whole number", found: value.summary)
    }
    guard range.contains(number) else {
      throw failure(key, expected: Self.text("\(range.lowerBound)", "\(range.upperBound)", range), found: "\(number)")
    }
    return number
  }

  /// A number.
  public mutating func number(
    _ key: String, in range: ClosedRange<Double> = -Double.greatestFiniteMagnitude...Double.greatestFiniteMagnitude
  ) throws(DiTError) -> Double? {
    guard let value = value(key) else { return nil }
    let number: Double
    switch value {
    case .integer(let whole): number = Double(whole)
    case .number(let real): number = real
    default: throw failure(key, expected: "a number", found: value.summary)
    }
    guard range.contains(number) else {
      throw failure(key, expected: "\(range.lowerBound) to \(range.upperBound)", found: "\(number)")
    }
    return number
  }

  /// `true` or `false`.
  public mutating func bool(_ key: String) throws(DiTError) -> Bool? {
    guard let value = value(key) else { return nil }
    guard case .bool(let bool) = value else { throw failure(key, expected: "true or false", found: value.summary) }
    return bool
  }

  /// A string.
  public mutating func string(_ key: String) throws(DiTError) -> String? {
    guard let value = value(key) else { return nil }
    guard case .string(let string) = value else { throw failure(key, expected: "a string", found: value.summary) }
    return string
  }

  /// An array of strings.
  public mutating func strings(_ key: String) throws(DiTError) -> [String]? {
    try elements(key, of: "strings") { if case .string(let string) = $0 { string } else { nil } }
  }

  /// An array of whole numbers.
  public mutating func integers(_ key: String) throws(DiTError) -> [Int]? {
    try elements(key, of: "whole numbers") { if case .integer(let number) = $0 { number } else { nil } }
  }

  /// An array of numbers.
  public mutating func numbers(_ key: String) throws(DiTError) -> [Double]? {
    try elements(key, of: "numbers") {
      switch $0 {
      case .integer(let whole): Double(whole)
      case .number(let real): real
      default: nil
      }
    }
  }

  /// One of the words that are the raw values of `type`.
  public mutating func word<Word: RawRepresentable & CaseIterable>(
    _ key: String, _ type: Word.Type = Word.self, among isAllowed: (Word) -> Bool = { _ in true }
  ) throws(DiTError) -> Word? where Word.RawValue == String {
    guard let value = value(key) else { return nil }
    guard case .string(let name) = value, let word = Word(rawValue: name), isAllowed(word) else {
      let words = type.allCases.filter(isAllowed).map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
      throw failure(key, expected: "one of \(words)", found: value.summary)
    }
    return word
  }

  /// A section; the caller finishes its reader.
  public mutating func object(_ key: String) throws(DiTError) -> JSONObjectReader? {
    guard let value = value(key) else { return nil }
    return try JSONObjectReader(value, file: file, path: dotted(key))
  }

  /// Throws when the key is there and is anything but the string `word`: the only choice that is implemented.
  public mutating func require(_ key: String, is word: String) throws(DiTError) {
    guard let value = value(key), value != .string(word) else { return }
    throw failure(key, expected: "\"\(word)\"", found: value.summary)
  }

  private mutating func elements<Element>(
    _ key: String, of kind: String, _ element: (JSONValue) -> Element?
  ) throws(DiTError) -> [Element]? {
    guard let value = value(key) else { return nil }
    guard case .array(let values) = value else {
      throw failure(key, expected: "an array of \(kind)", found: value.summary)
    }
    var elements: [Element] = []
    for value in values {
      guard let element = element(value) else {
        throw failure(key, expected: "an array of \(kind)", found: "\(value.summary) in it")
      }
      elements.append(element)
    }
    return elements
  }

  private static func text(_ low: String, _ high: String, _ range: ClosedRange<Int>) -> String {
    range.upperBound == .max ? "at least \(low)" : "\(low) to \(high)"
  }
}
