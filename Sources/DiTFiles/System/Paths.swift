/// Paths as strings.
package enum Paths {
  /// `name` inside `directory`.
  package static func join(_ directory: String, _ name: String) -> String {
    directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)"
  }

  /// `path` as seen from `directory`: an absolute path stays as it is.
  package static func resolve(_ path: String, in directory: String) -> String {
    path.hasPrefix("/") ? path : join(directory, path)
  }
}
