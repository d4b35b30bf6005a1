import Foundation

/// The results: as Markdown tables on stdout while they come, and as a JSON file.
final class Report {
  private struct Contents: Encodable {
    let machine: Machine
    var verified: [Verification] = []
    var results: [Row] = []
  }

  private var contents: Contents
  private let path: String?
  private var openSection: String?

  /// - Parameter path: the JSON file; nil is none.
  /// - Throws: ``BenchError`` when the file cannot be written.
  init(_ machine: Machine, path: String?) throws {
    contents = Contents(machine: machine)
    self.path = path
    print("# dit-bench\n\n\(machine.markdown)")
    try save()
  }

  func add(_ verification: Verification) { contents.verified.append(verification) }

  /// Prints a row, before the first of a section its title, note and head, and writes the file anew.
  func add(_ section: any Section.Type, _ work: String, _ fields: [Field]) throws {
    if openSection != section.name {
      openSection = section.name
      print("\n## \(section.name)\n\n\(section.note)\n")
      print("| work | " + fields.map(\.title).joined(separator: " | ") + " |")
      print("|---|" + String(repeating: "---|", count: fields.count))
    }
    print("| \(work) | " + fields.map(\.text).joined(separator: " | ") + " |")
    fflush(nil)
    let values = fields.reduce(into: [:]) { $0.merge($1.values) { $1 } }
    contents.results.append(Row(section: section.name, work: work, values: values))
    try save()
  }

  func finish() {
    let worst = contents.verified.map(\.difference).max() ?? 0
    print(
      "\nVerified before timing: on \(contents.verified.count) networks the inference pass agrees with the training pass;"
        + " largest difference \(worst) of the largest value.")
  }

  private func save() throws {
    guard let path else { return }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    let text = try encoder.encode(contents) + Data("\n".utf8)
    do {
      try text.write(to: URL(filePath: path), options: .atomic)
    } catch {
      throw BenchError("\(path): cannot be written: \(error.localizedDescription)")
    }
  }
}
