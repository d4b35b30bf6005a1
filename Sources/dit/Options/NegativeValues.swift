/// `--guidance -1` as it is meant: the parser takes whatever begins with a minus for an option's name, and says that the
/// value is missing. Joined by `=`, as in `--guidance=-1`, it is a value.
enum NegativeValues {
  /// The arguments with numbers below zero joined to the option in front of them, up to `--`.
  static func joined(_ arguments: some Sequence<String>) -> [String] {
    var result: [String] = []
    var isOptions = true
    for argument in arguments {
      if argument == "--" { isOptions = false }
      if isOptions, isNumber(argument), let option = result.last, isOption(option) {
        result[result.count - 1] = "\(option)=\(argument)"
      } else {
        result.append(argument)
      }
    }
    return result
  }

  private static func isOption(_ argument: String) -> Bool {
    argument.count > 2 && argument.hasPrefix("--") && !argument.contains("=")
  }

  /// Whether it begins as a number below zero does: `-1`, `-.5`, `-1,3`, `-inf`.
  private static func isNumber(_ argument: String) -> Bool {
    guard argument.first == "-", let next = argument.dropFirst().first else { return false }
    return next.isASCII && next.isNumber || next == "."
      || ["-inf", "-infinity", "-nan"].contains(argument.lowercased())
  }
}
