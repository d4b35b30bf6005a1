/// Paths as strings: `/` separates, nothing is looked up.
package enum Paths {
  /// `name` inside `directory`.
  package static func join(_ directory: String, _ name: String) -> String {
    directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)"
  }

  /// `path` as seen from `directory`: itself where it is absolute.
  package static func resolve(_ path: String, in directory: String) -> String {
    path.hasPrefix("/") ? path : join(directory, path)
  }

  /// The directory that holds `path`: what stands before its last component, `.` where nothing does, `/` for the root.
  package static func parent(of path: String) -> String {
    var rest = Substring(path)
    while rest.count > 1, rest.last == "/" { rest.removeLast() }
    guard let slash = rest.lastIndex(of: "/") else { return "." }
    rest = rest[..<slash]
    while rest.last == "/" { rest.removeLast() }
    return rest.isEmpty ? "/" : String(rest)
  }
}
