import DiTFiles
import DiTTensor
import Foundation

/// A user's list of a model's classes: `3`, `0,3,7`, `0-9`, class names, or any of these between commas, Chinese ones too. Order
/// and repetitions are kept.
///
/// A word that is a class's name means that class, also where the name is a number; a class may have several names between
/// commas, as ImageNet's "tench, Tinca tinca". Upper and lower case differ only where two names differ in nothing else. Names
/// that look alike, as they differ by their normal form alone, are chosen by number.
public enum LabelList {
  /// The classes that `list` names, each in 0…`num_classes`−1.
  ///
  /// - Throws: `DiTError` (`classes`) for a word that is not a class of the model, with the names nearest to it.
  public static func parse(_ list: String, for model: ModelConfiguration) throws(DiTError) -> [Int] {
    if let index = try index(named: list, of: model) { return [index] }  // a name may hold commas
    var classes: [Int] = []
    for word in list.split(separator: ",", omittingEmptySubsequences: false) {
      classes += try item(String(word), of: model)
    }
    return classes
  }

  private static func item(_ word: String, of model: ModelConfiguration) throws(DiTError) -> [Int] {
    let last = model.network.numClasses - 1
    if let index = try index(named: word, of: model) { return [index] }
    let words = word.split(omittingEmptySubsequences: false) { "，、".contains($0) }
    guard words.count == 1 else {
      var classes: [Int] = []
      for word in words { classes += try item(String(word), of: model) }
      return classes
    }
    let ends = trimmed(word).split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
    guard let low = ends[0], ends.count <= 2, let high = ends[ends.count - 1], low <= high else {
      throw DiTError(
        argument: "classes", expected: "classes such as 3, 0,3,7 or 0-9\(names(near: word, of: model))",
        found: "'\(word)'")
    }
    guard 0 <= low, high <= last else {
      throw DiTError(argument: "classes", expected: "classes in 0…\(last)", found: "'\(word)'")
    }
    return Array(low...high)
  }

  /// The class of that name, or one of whose names that is.
  ///
  /// - Throws: `DiTError` when several classes have it.
  private static func index(named name: String, of model: ModelConfiguration) throws(DiTError) -> Int? {
    guard let names = model.classNames else { return nil }
    let word = trimmed(name)
    let name = FileName.shown(word) == word ? word : FileName.text(word)  // typed as the bytes that name a folder
    let lowercased = name.lowercased()
    let rules: [(String) -> Bool] = [
      { $0 == name }, { parts($0).contains(name) }, { $0.lowercased() == lowercased },
      { parts($0.lowercased()).contains(lowercased) },
    ]
    for rule in rules {
      let classes = names.indices.filter { rule(names[$0]) }
      guard classes.count > 1 else {
        if let only = classes.first { return only }
        continue
      }
      // Names that differ by their normal form look the same in print.
      let areAlike = Set(classes.map { names[$0] }).count < Set(classes.map { ExactName(names[$0]) }).count
      let texts = classes.map { areAlike ? "\($0) \"\(FileName.spelled(names[$0]))\"" : "\($0)" }
      throw DiTError(
        argument: "classes", expected: "a number, as classes \(texts.joined(separator: ", ")) have that name",
        found: "'\(name)'")
    }
    return nil
  }

  /// The names between the commas of a class's name.
  private static func parts(_ name: String) -> [String] { name.split(separator: ",").map { trimmed(String($0)) } }

  private static func trimmed(_ text: String) -> String { text.trimmingCharacters(in: .whitespaces) }

  /// The names that look most like a word, for an error, or the first where none looks like it; empty where the classes have none.
  private static func names(near word: String, of model: ModelConfiguration) -> String {
    guard let names = model.classNames else { return "" }
    let word = Array(word.lowercased())
    let ranked = names.flatMap { parts($0) }.map { (name: $0, distance: distance(word, Array($0.lowercased()))) }.sorted
    {
      ($0.distance, $0.name) < ($1.distance, $1.name)
    }
    if ranked.allSatisfy({ $0.distance >= word.count }) {
      return ", or names: \(names.prefix(20).joined(separator: ", "))\(names.count > 20 ? ", …" : "")"
    }
    let near = ranked.prefix(3).map(\.name).joined(separator: ", ")
    return ", or names, of which the nearest \(min(3, names.count) == 1 ? "is" : "are") \(near)"
  }

  /// The Levenshtein distance of `a` to `b`; 0 where `b` begins with `a`.
  private static func distance(_ a: [Character], _ b: [Character]) -> Int {
    if !a.isEmpty, b.starts(with: a) { return 0 }
    var row = Array(0...b.count)
    for i in a.indices {
      var corner = row[0]
      row[0] = i + 1
      for j in b.indices {
        let changed = corner + (a[i] == b[j] ? 0 : 1)
        corner = row[j + 1]
        row[j + 1] = min(changed, corner + 1, row[j] + 1)
      }
    }
    return row[b.count]
  }
}
