/// A name that is equal to those of the same bytes only: a key of dictionaries and sets over names from outside, where
/// String's own `==` takes "é" and "e" with an accent behind it for one.
package struct ExactName: Hashable, Sendable {
  package let string: String

  package init(_ string: String) { self.string = string }

  package static func == (a: ExactName, b: ExactName) -> Bool { a.string.utf8.elementsEqual(b.string.utf8) }

  package func hash(into hasher: inout Hasher) {
    var string = string
    string.withUTF8 { unsafe hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}
