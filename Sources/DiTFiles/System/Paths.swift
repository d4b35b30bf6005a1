#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Paths as strings: `/` separates, nothing is looked up.
package enum Paths {
  /// `name` inside `directory`.
  package static func join(_ directory: String, _ name: String) -> String {
    directory.utf8.last == slash ? directory + name : "\(directory)/\(name)"
  }

  /// `path` as seen from `directory`: itself where it is absolute.
  package static func resolve(_ path: String, in directory: String) -> String {
    path.utf8.first == slash ? path : join(directory, path)
  }

  /// The directory that holds `path`: what stands before its last component, `.` where nothing does, `/` for the root.
  package static func parent(of path: String) -> String {
    var rest = path.utf8[...]
    while rest.count > 1, rest.last == slash { rest.removeLast() }
    guard let place = rest.lastIndex(of: slash) else { return "." }
    rest = rest[..<place]
    while rest.last == slash { rest.removeLast() }
    return rest.isEmpty ? "/" : String(Substring(rest))
  }

  /// The last component of `path`, without the slashes behind it.
  package static func name(of path: String) -> String {
    var rest = path.utf8[...]
    while rest.count > 1, rest.last == slash { rest.removeLast() }
    guard let place = rest.lastIndex(of: slash), rest.count > 1 else { return String(Substring(rest)) }
    return String(Substring(rest[rest.index(after: place)...]))
  }

  /// `TMPDIR`, or /tmp.
  package static var temporaryFolder: String {
    guard let folder = unsafe getenv("TMPDIR"), unsafe folder.pointee != 0 else { return "/tmp" }
    return unsafe String(cString: folder)
  }

  // By bytes: as a Character a slash may have an accent.
  private static let slash = UInt8(ascii: "/")
}
