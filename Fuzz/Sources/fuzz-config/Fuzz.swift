import DiTFiles
import DiTPipeline

/// What libFuzzer calls with every input: the bytes are read as JSON, and that as a model's config.json. Both must be refused
/// by an error or read, and what was read comes back equal from what is written; a trap, a sanitizer's report or
/// memory out of proportion is a bug.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
  guard let value = parse(bytes) else { return 0 }
  guard let again = parse(Array(value.text.utf8)) else { preconditionFailure("what was written cannot be read") }
  precondition(again.text == value.text, "what was written is read as another value")
  guard let configuration = read(value) else { return 0 }
  guard let copy = read(configuration.json) else { preconditionFailure("a configuration's own JSON is refused") }
  precondition(copy == configuration, "a configuration's own JSON is another's")
  return 0
}

private func parse(_ bytes: [UInt8]) -> JSONValue? {
  result { () throws(ConfigurationFileError) in try JSONValue(parsing: bytes, file: "config.json") }
}

private func read(_ value: JSONValue) -> ModelConfiguration? {
  result { () throws(ConfigurationFileError) in
    try ModelConfiguration(reading: JSONObjectReader(value, file: "config.json"))
  }
}

private func result<Value>(_ body: () throws(ConfigurationFileError) -> Value) -> Value? {
  do {
    return try body()
  } catch {
    let line = error.description
    precondition(!line.isEmpty && line.utf8.count < 10_000, "a message of \(line.utf8.count) bytes")
    precondition(!line.contains { $0.isNewline }, "a message of several lines")
    return nil
  }
}
