import DiffusionTransformers

/// The classes that a LIST names: `3`, `0,3,7`, `0-9`, class names, or any of these between commas. Order and repetitions
/// are kept.
enum LabelList {
  /// With more classes than this, all of them is not a sensible default.
  static let largestDefault = 100

  /// Every class of a model.
  ///
  /// - Throws: ``Failure`` (64) when there are so many that one should choose.
  static func all(of model: ModelConfiguration) throws(Failure) -> [Int] {
    let count = model.network.numClasses
    guard count <= largestDefault else {
      throw .usage("--classes", expected: "a list of classes, as the model has \(count)", found: "none")
    }
    return Array(0..<count)
  }

  /// - Throws: ``Failure`` (64) for a word that is no class of the model.
  static func parse(_ list: String, for model: ModelConfiguration) throws(Failure) -> [Int] {
    if let index = index(named: list, of: model) { return [index] }  // a name may hold commas
    var classes: [Int] = []
    for word in list.split(separator: ",", omittingEmptySubsequences: false) {
      classes += try item(String(word), of: model)
    }
    return classes
  }

  private static func item(_ word: String, of model: ModelConfiguration) throws(Failure) -> [Int] {
    let last = model.network.numClasses - 1
    if let index = index(named: word, of: model) { return [index] }
    let ends = word.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
    guard let low = ends[0], ends.count <= 2, let high = ends[ends.count - 1], low <= high else {
      let names = model.classNames == nil ? "" : ", class names"
      throw .usage("--classes", expected: "classes such as 3, 0,3,7 or 0-9\(names)", found: "'\(word)'")
    }
    guard 0 <= low, high <= last else {
      throw .usage("--classes", expected: "classes in 0…\(last)", found: "'\(word)'")
    }
    return Array(low...high)
  }

  /// The class of that name, upper and lower case alike; nil for a number, which is an index.
  private static func index(named name: String, of model: ModelConfiguration) -> Int? {
    guard Int(name) == nil else { return nil }
    return model.classNames?.firstIndex { $0.lowercased() == name.lowercased() }
  }
}
