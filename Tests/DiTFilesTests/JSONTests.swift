import DiTFiles
import DiTTensor
import Testing

@Suite("The JSON reader and writer") struct JSONTests {
  func parse(_ text: String) throws(DiTError) -> JSONValue {
    try JSONValue(parsing: Array(text.utf8), file: "f")
  }

  @Test("Every kind of value is read, with escapes and large integers")
  func valuesAreRead() throws {
    let text = #" {"b": [1, -2.5e1, true, false, null], "a" :{"":"x\u00e9\ud83d\ude00\n\"\/"}, "c": 9007199254740993}"#
    #expect(
      try parse(text)
        == .object([
          JSONMember("b", .array([.integer(1), .number(-25), .bool(true), .bool(false), .null])),
          JSONMember("a", .object([JSONMember("", .string("xé😀\n\"/"))])),
          JSONMember("c", .integer(9_007_199_254_740_993)),
        ]))
  }

  /// Text and the error it must give: neither less strict nor about another place.
  static let malformed: [(String, String)] = [
    ("", "line 1, column 1: expected a value, found the end of the file"),
    ("{", "line 1, column 2: expected a key in quotes, found the end of the file"),
    ("{\n \"a\": 1,}", "line 2, column 9: expected a key in quotes, found '}'"),
    ("{\"a\" 1}", "line 1, column 6: expected ':', found '1'"),
    ("{a: 1}", "line 1, column 2: expected a key in quotes, found 'a'"),
    ("{'a': 1}", "line 1, column 2: expected a key in quotes, found '''"),
    ("{\"a\": 1 \"b\": 2}", "line 1, column 9: expected ',' or '}', found '\"'"),
    ("{\"a\": 1, \"a\": 1}", "a: expected each key once, found it twice"),
    ("{\"s\": [{\"a\": 1, \"\\u0061\": 1}]}", "s.0.a: expected each key once, found it twice"),
    ("[1,]", "line 1, column 4: expected a value, found ']'"),
    ("[1 2]", "line 1, column 4: expected ',' or ']', found '2'"),
    ("[1", "line 1, column 3: expected ',' or ']', found the end of the file"),
    ("01", "line 1, column 1: expected a number without leading zeros, found '0'"),
    ("-", "line 1, column 2: expected a digit, found the end of the file"),
    ("+1", "line 1, column 1: expected a value, found '+'"),
    (".5", "line 1, column 1: expected a value, found '.'"),
    ("1.", "line 1, column 3: expected a digit, found the end of the file"),
    ("1e", "line 1, column 3: expected a digit, found the end of the file"),
    ("1e999", "line 1, column 1: expected a number that fits 64 bits, found 1e999"),
    ("9223372036854775808", "line 1, column 1: expected a number that fits 64 bits, found 9223372036854775808"),
    ("NaN", "line 1, column 1: expected a value, found 'N'"),
    ("nul", "line 1, column 4: expected null, found the end of the file"),
    ("true false", "line 1, column 6: expected the end of the file, found 'f'"),
    ("// c\n1", "line 1, column 1: expected a value, found '/'"),
    ("\"a", "line 1, column 3: expected '\"', found the end of the file"),
    ("\"a\nb\"", "line 1, column 3: expected '\"', found byte 0xa"),
    ("\"\\x\"", "line 1, column 3: expected an escape of JSON, found 'x'"),
    ("\"\\u12g4\"", "line 1, column 6: expected four hexadecimal digits, found 'g'"),
    ("\"\\ud800\"", "line 1, column 8: expected a pair of surrogates, found one half"),
    ("\u{FEFF}1", "line 1, column 1: expected a value, found byte 0xef"),
  ]

  @Test("Malformed text is refused with line, column, expected and found", arguments: malformed)
  func malformedTextIsRefused(text: String, message: String) {
    let error = #expect(throws: DiTError.self) { try parse(text) }
    #expect(error?.description == "f: \(message)")
  }

  @Test("Broken UTF-8 in a string is refused")
  func brokenUTF8IsRefused() {
    let error = #expect(throws: DiTError.self) {
      try JSONValue(parsing: [0x22, 0xC3, 0x28, 0x22], file: "f")
    }
    #expect(error?.problem == "expected UTF-8, found a string that is not")
  }

  @Test("Nesting is limited, so that a million brackets are refused")
  func nestingIsLimited() throws {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    _ = try parse(nested(JSONValue.maximumDepth))
    #expect(throws: DiTError.self) { try parse(nested(JSONValue.maximumDepth + 2)) }
    #expect(throws: DiTError.self) { try parse(String(repeating: "[", count: 1_000_000)) }
  }

  @Test("Written text has one form and reads back equal")
  func writingIsCanonicalAndComesBack() throws {
    let value = JSONValue.object([
      JSONMember("z", .integer(-3)), JSONMember("a", .number(0.0001)), JSONMember("w", .number(4)),
      JSONMember("list", .array([.integer(1), .string("q\"\\\u{1}\n"), .null])),
      JSONMember("o", .object([JSONMember("e", .object([])), JSONMember("n", .array([.array([]), .bool(true)]))])),
    ])
    let text = """
      {
        "z": -3,
        "a": 0.0001,
        "w": 4,
        "list": [1, "q\\"\\\\\\u0001\\n", null],
        "o": {
          "e": {},
          "n": [
            [],
            true
          ]
        }
      }

      """
    #expect(value.text == text)
    #expect(try parse(value.text).text == text)
  }

  @Test("The object reader gives typed values and refuses ranges and unknown keys")
  func readerTellsTypesRangesAndUnknownKeys() throws {
    enum Word: String, CaseIterable { case one, two }
    let text = #"{"i": 3, "x": 2, "b": true, "s": "t", "w": "two", "l": ["a"], "n": [1, 2], "o": {"k": 1}}"#
    var reader = try JSONObjectReader(parse(text), file: "f")
    #expect(try reader.integer("i", in: 0...3) == 3)
    #expect(try reader.number("x") == 2)
    #expect(try reader.bool("b") == true)
    #expect(try reader.string("s") == "t")
    #expect(try reader.word("w", Word.self) == .two)
    #expect(try reader.strings("l") == ["a"])
    #expect(try reader.integers("n") == [1, 2])
    #expect(try reader.integer("absent") == nil)
    var section = try #require(try reader.object("o"))
    try reader.finish()
    #expect(section.path == "o")
    let unread = #expect(throws: DiTError.self) { try section.finish() }
    #expect(unread?.description == "f: o.k: expected one of the keys , found an unknown key")
    let range = #expect(throws: DiTError.self) { try section.integer("k", in: 2...5) }
    #expect(range?.description == "f: o.k: expected 2 to 5, found 1")
  }

  @Test("The object reader refuses values of other types")
  func readerRefusesOtherTypes() throws {
    func reader() throws -> JSONObjectReader { try JSONObjectReader(parse(#"{"k": "3", "n": 1.0}"#), file: "f") }
    func problem(_ read: (inout JSONObjectReader) throws -> Void) throws -> String? {
      var reader = try reader()
      return #expect(throws: DiTError.self) { try read(&reader) }?.problem
    }
    enum Word: String, CaseIterable { case one, two }
    #expect(try problem { _ = try $0.integer("k") } == "expected a whole number, found \"3\"")
    #expect(try problem { _ = try $0.integer("n") } == "expected a whole number, found 1.0")
    #expect(try problem { _ = try $0.number("k") } == "expected a number, found \"3\"")
    #expect(try problem { _ = try $0.bool("k") } == "expected true or false, found \"3\"")
    #expect(try problem { _ = try $0.string("n") } == "expected a string, found 1.0")
    #expect(try problem { _ = try $0.strings("k") } == "expected an array of strings, found \"3\"")
    #expect(try problem { _ = try $0.word("k", Word.self) } == "expected one of \"one\", \"two\", found \"3\"")
    #expect(try problem { _ = try $0.object("k") } == "expected an object, found \"3\"")
    #expect(try problem { try $0.require("k", is: "4") } == "expected \"4\", found \"3\"")
  }
}
