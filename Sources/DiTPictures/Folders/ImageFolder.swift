// A folder of pictures as a data set:
//
//   DATA/cat/a.png, DATA/cat/more/b.jpg, DATA/dog/c.jpeg     two classes, cat (0) and dog (1)
//   DATA/a.png, DATA/b.jpg                                   no classes
//
// Names are any bytes that the file system takes, and are sorted by them, so that "10" comes before "2" and "Z" before "a",
// everywhere. Two names that look alike, as "é" and "e" with an accent behind it, are two names.

import DiTFiles
import DiTTensor
import DiTTraining

/// The PNG, JPEG and WebP files of a folder, and what class each belongs to. Nothing is decoded yet.
///
/// Sub-folders are the classes; pictures anywhere below one belong to it. A folder without sub-folders that hold pictures
/// is data without classes. Hidden files and folders (whose name begins with a dot) are passed over, links are followed.
public struct ImageFolder: PictureSet {
  /// The endings that make a file a picture, in upper or lower case; its content says which kind it is.
  public static let endings = ["png", "jpg", "jpeg", "webp"]

  /// Whether a file's name has the ending of a picture.
  static func isPicture(_ name: String) -> Bool {
    let bytes = name.utf8.map { 0x41...0x5A ~= $0 ? $0 | 0x20 : $0 }  // lower case, as far as endings have letters
    return endings.contains { bytes.suffix($0.utf8.count + 1).elementsEqual(".\($0)".utf8) }
  }

  /// The folder.
  public let path: String
  /// The classes in the order of their labels; nil without class folders. Bytes of a folder's name that are no UTF-8 stand in
  /// its class's as `\xe9`.
  public let classNames: [String]?
  /// Notes for the user on what was passed over, one per line.
  public let notes: [String]
  /// Relative to `path`, in the order of the samples: class by class, sorted within a class.
  let files: [String]
  /// The class of each file, where there are classes.
  public let labels: [Int]?

  /// The number of pictures.
  public var count: Int { files.count }

  public var classes: DataClasses {
    DataClasses(source: path, names: classNames, statedCount: classNames?.count ?? 0, count: classNames?.count)
  }

  /// - Precondition: 1 or 3 channels.
  public func dataset(
    channels: Int, height: Int, width: Int, options: PictureOptions = PictureOptions()
  ) throws(DiTError) -> (data: Dataset, notes: [String]) {
    let entries = files.map { PictureEntry(path: $0, file: "\(path)/\($0)") }
    return try PictureListing(name: path, entries: entries, labels: labels, classNames: classNames)
      .dataset(channels: channels, height: height, width: width, options: options)
  }

  /// Lists a folder.
  ///
  /// - Throws: `DiTError` when there is no such folder, it cannot be read, holds no picture, or has a class folder
  ///   without one.
  public init(_ path: String) throws(DiTError) {
    var other: [String] = []
    let top = try FolderLevel(path, "")
    other += top.others
    var classes: [(name: String, files: [String])] = []
    for folder in top.folders {
      let (pictures, others) = try FolderLevel.all(below: path, folder)
      classes.append((folder, pictures))
      other += others
    }
    var notes: [String] = []
    let empty = classes.filter(\.files.isEmpty).map(\.name)
    if classes.count == empty.count {
      guard !top.pictures.isEmpty else {
        throw DiTError(
          data: path, nil, .unusable("expected PNG, JPEG or WebP files, or folders of such files; found none"))
      }
      (classNames, labels, files) = (nil, nil, top.pictures)
      if !empty.isEmpty { notes.append(Self.note(empty.count, "folder", "without pictures passed over", empty)) }
    } else {
      if let name = empty.first {
        throw DiTError(
          data: "\(path)/\(name)", nil, .unusable("expected PNG, JPEG or WebP files of this class, found none"))
      }
      classNames = classes.map { FileName.text($0.name) }
      labels = classes.indices.flatMap { [Int](repeating: $0, count: classes[$0].files.count) }
      files = classes.flatMap(\.files)
      if !top.pictures.isEmpty {
        notes.append(
          Self.note(
            top.pictures.count, "picture", "beside the class folders passed over, having no class", top.pictures))
      }
    }
    if !other.isEmpty { notes.append(Self.note(other.count, "file", "of other endings passed over", other)) }
    notes += Self.orderNote(classNames)
    self.notes = notes.map { FileName.shown("\(path): \($0)") }
    self.path = path
  }

  /// "3 files of other endings passed over: a.txt, b.gif, c"
  static func note(_ count: Int, _ noun: String, _ what: String, _ names: [String], limit: Int = 5) -> String {
    let more = names.count > limit ? " and \(names.count - limit) more" : ""
    return "\(count) \(noun)\(count == 1 ? "" : "s") \(what): \(names.prefix(limit).joined(separator: ", "))\(more)"
  }

  /// A word where classes are numbers and not their own labels.
  private static func orderNote(_ names: [String]?) -> [String] {
    guard let names, names.allSatisfy({ Int($0) != nil }),
      let index = names.indices.first(where: { Int(names[$0]) != $0 })
    else { return [] }
    return ["class names are sorted as text: label \(index) is the folder \(names[index])"]
  }
}
