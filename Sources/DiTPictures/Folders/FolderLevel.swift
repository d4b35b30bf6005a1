import DiTFiles
import DiTTensor
import DiTTraining

/// What one folder holds: names sorted by their bytes, hidden ones left out, relative to the root.
struct FolderLevel {
  var folders: [String] = []
  /// Files that a picture's ending names.
  var pictures: [String] = []
  /// Files of other endings.
  var others: [String] = []

  /// Deeper than this a folder is taken for a loop of links.
  static let maximumDepth = 32

  /// The level `inner` below `root`; the root itself when that is empty.
  init(_ root: String, _ inner: String) throws(DiTError) {
    let path = inner.isEmpty ? root : "\(root)/\(inner)"
    guard inner.utf8.count(where: { $0 == UInt8(ascii: "/") }) < Self.maximumDepth else {
      throw DiTError(data: path, nil, .unusable("expected at most \(Self.maximumDepth) folders in each other"))
    }
    for name in try Self.names(path) where name.utf8.first != UInt8(ascii: ".") {
      let relative = inner.isEmpty ? name : "\(inner)/\(name)"
      if FileStamp.isFolder("\(path)/\(name)") {
        folders.append(relative)
      } else if ImageFolder.isPicture(name) {
        pictures.append(relative)
      } else {
        others.append(relative)
      }
    }
  }

  /// All files below a folder, sorted by the bytes of their paths.
  static func all(below root: String, _ inner: String) throws(DiTError) -> (pictures: [String], others: [String]) {
    let level = try FolderLevel(root, inner)
    var (pictures, others) = (level.pictures, level.others)
    for folder in level.folders {
      let below = try all(below: root, folder)
      pictures += below.pictures
      others += below.others
    }
    return (pictures.sorted(by: FileName.isBefore), others.sorted(by: FileName.isBefore))
  }

  private static func names(_ path: String) throws(DiTError) -> [String] {
    guard FileStamp.isFolder(path) else {
      let isThere = FileStatus.exists(path)
      throw DiTError(data: path, nil, .unusable("expected a folder, found \(isThere ? "a file" : "nothing")"))
    }
    do throws(DiTError) {
      return try Directory.listing(path)
    } catch {
      throw DiTError(data: path, nil, .unusable("the folder cannot be read"))
    }
  }
}
