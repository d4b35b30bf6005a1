import DiTFiles
import DiTTensor
import DiTTraining

/// The pictures in one or more tar archives, which stay packed: they are read where they lie, in any order.
///
/// Files of one name up to its first dot, one after another, are a sample (WebDataset): a picture `KEY.jpg`, `.png` or `.webp` and
/// its label `KEY.cls`, a whole number in digits. Without such labels, where every picture lies in a folder, these are the classes, as in
/// ``ImageFolder``; folders around all of them do not count. Other files are passed over, and so are links but for
/// hard ones to a file before them.
public struct TarArchive: PictureSet {
  public let path: String
  public let labels: [Int]?
  public let notes: [String]
  private let classNames: [String]?
  private let entries: [PictureEntry]

  public var count: Int { entries.count }

  public var classes: DataClasses {
    let named = classNames?.count
    return DataClasses(
      source: path, names: classNames, statedCount: labels == nil ? 0 : named,
      count: named ?? labels?.max().map { $0 + 1 })
  }

  /// - Returns: nil where `path` is no `.tar`, no `NAME{FIRST..LAST}.tar`, and no folder of such files without pictures beside them.
  /// - Throws: `DiTError` for a damaged archive, one without pictures, and labels that only some of the pictures have.
  public init?(at path: String) throws(DiTError) {
    guard let files = try Self.files(path) else { return nil }
    var (samples, others): ([Sample], [String]) = ([], [])
    var (links, unended): ([String], [String]) = ([], [])
    for file in files {
      let archive: TarFile
      do throws(DiTError) { archive = try TarFile(contentsOf: file) } catch { throw error.of(.data) }
      let shard = files.count > 1 || file != path ? Paths.name(of: file) + "/" : ""
      links += archive.links.map { shard + $0 }
      if !archive.isEnded { unended.append(file) }
      try Self.add(archive.members, of: file, shard, to: &samples, &others)
    }
    let notes = Self.notes(path, links: links, unended: unended)
    guard !samples.isEmpty else {
      throw DiTError(data: path, nil, .unusable("expected PNG, JPEG or WebP files in it, found none"))
    }
    if let first = samples.first(where: { $0.label != nil }) {
      others += samples.filter { !$0.isPlain }.map(\.entry.path)
      samples.removeAll { !$0.isPlain }
      guard let bare = samples.first(where: { $0.label == nil }) else {
        self.init(path, samples.map(\.entry), samples.map { $0.label ?? 0 }, nil, others, notes)
        return
      }
      throw DiTError(
        data: "\(path)/\(bare.entry.path)", nil,
        .unusable("expected a .cls beside it, as \(first.entry.path) has one; found none"))
    }
    // Passed over beside others; all labels are of that form where names have dots, and would be lost.
    if let dotted = others.first(where: { $0.lowercased().hasSuffix(".cls") }) {
      throw DiTError(
        data: "\(path)/\(dotted)", nil,
        .unusable("expected KEY.cls with one dot, as WebDataset's keys end at the first; found more"))
    }
    let folders = Self.classFolders(samples)
    let names = Set(folders).sorted(by: FileName.isBefore)
    guard names.count > 1, !names.contains("") else {
      self.init(path, samples.map(\.entry), nil, nil, others, notes)
      return
    }
    let places = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
    self.init(
      path, samples.map(\.entry), folders.map { places[$0] ?? 0 }, names.map { FileName.text($0) }, others, notes)
  }

  private init(
    _ path: String, _ entries: [PictureEntry], _ labels: [Int]?, _ classNames: [String]?, _ others: [String],
    _ archiveNotes: [String]
  ) {
    (self.path, self.entries, self.labels, self.classNames) = (path, entries, labels, classNames)
    let note = ImageFolder.note(others.count, "file", "of other endings passed over", others)
    notes = (others.isEmpty ? [] : [FileName.shown("\(path): \(note)")]) + archiveNotes
  }

  private static func notes(_ path: String, links: [String], unended: [String]) -> [String] {
    var notes: [String] = []
    if !links.isEmpty {
      notes.append(
        "\(path): \(ImageFolder.note(links.count, "link", "to other than files before them passed over", links))")
    }
    notes += unended.map { "\($0): has no mark of its end: what came after its last file may be missing" }
    return notes.map { FileName.shown($0) }
  }

  /// Whether `path` is meant as archives.
  static func isOne(_ path: String) -> Bool { path.lowercased().hasSuffix(".tar") }

  public func dataset(
    channels: Int, height: Int, width: Int, options: PictureOptions = PictureOptions()
  ) throws(DiTError) -> (data: Dataset, notes: [String]) {
    precondition(channels == 1 || channels == 3, "pictures of \(channels) channels")
    return try PictureListing(name: path, entries: entries, labels: labels, classNames: classNames)
      .dataset(channels: channels, height: height, width: width, options: options)
  }

  // MARK: Samples

  /// The folder of each sample that may be its class: the first that not all have in common; empty where there is none.
  private static func classFolders(_ samples: [Sample]) -> [String] {
    let first = samples.first?.folders ?? []
    var depth = 0
    while depth < first.count, samples.allSatisfy({ $0.folders.count > depth + 1 && $0.folders[depth] == first[depth] })
    {
      depth += 1
    }
    return samples.map { $0.folders.count > depth ? $0.folders[depth] : "" }
  }

  fileprivate struct Sample {
    /// The archive, and the name up to its first dot.
    let key: String
    /// Whether nothing but the ending is behind that dot: `0001.seg.png` is no sample's picture.
    let isPlain: Bool
    let entry: PictureEntry
    var label: Int?
    /// The folders of its name.
    let folders: [String]
  }

  /// Joins the members of an archive to samples.
  private static func add(
    _ members: [TarFile.Member], of file: String, _ shard: String, to samples: inout [Sample], _ others: inout [String]
  ) throws(DiTError) {
    var label: (key: String, value: Int)?
    for member in members {
      let name = member.name.hasPrefix("./") ? String(member.name.dropFirst(2)) : member.name
      let base = Paths.name(of: name)
      guard !base.hasPrefix(".") else { continue }
      let stem = String(base.prefix { $0 != "." })
      let key = shard + String(Substring(name.utf8.dropLast(base.utf8.count))) + stem
      let ending = base.dropFirst(stem.count).lowercased()
      if ImageFolder.isPicture(base) {
        let isPlain = !ending.dropFirst().contains(".")
        guard !isPlain || !samples.trailing(key).contains(where: { samples[$0].isPlain }) else {
          throw DiTError(data: "\(file)/\(name)", nil, .unusable("expected one picture of this key, found another"))
        }
        let folders = name.utf8.split(separator: UInt8(ascii: "/")).dropLast().map { String(Substring($0)) }
        samples.append(
          Sample(
            key: key, isPlain: isPlain, entry: PictureEntry(path: shard + name, file: file, range: member.range),
            label: isPlain && label?.key == key ? label?.value : nil, folders: folders))
      } else if ending == ".cls" {
        label = (key, try self.label(member, name, file))
        for index in samples.trailing(key) where samples[index].isPlain { samples[index].label = label?.value }
      } else {
        others.append(shard + name)
      }
    }
  }

  private static func label(_ member: TarFile.Member, _ name: String, _ file: String) throws(DiTError) -> Int {
    let bytes: [UInt8]
    do throws(DiTError) { bytes = try RegularFile(path: file).bytes(member.range.prefix(64)) } catch {
      throw error.of(.data)
    }
    let text = String(decoding: bytes, as: UTF8.self).trimmingPrefix(while: \.isWhitespace)
    let digits = text.utf8.prefix { 0x30...0x39 ~= $0 }
    guard member.range.count < 64, let value = Int(Substring(digits)), 0...999_999 ~= value,
      text.utf8.dropFirst(digits.count).allSatisfy({ [0x20, 0x09, 0x0A, 0x0D].contains($0) })
    else {
      throw DiTError(
        data: "\(file)/\(name)", nil,
        .unusable("expected a class, a whole number from 0 to 999999; found \(text.prefix(20))"))
    }
    return value
  }

  // MARK: Archives

  private static func files(_ path: String) throws(DiTError) -> [String]? {
    if ImageFolder.isFolder(path) {
      let level = try FolderLevel(path, "")
      let archives = level.others.filter(isOne)
      return level.pictures.isEmpty && !archives.isEmpty ? archives.map { "\(path)/\($0)" } : nil
    }
    guard isOne(path) else { return nil }
    guard let open = path.lastIndex(of: "{"), let close = path[open...].firstIndex(of: "}") else { return [path] }
    let (head, tail) = (path[..<open], path[path.index(after: close)...])
    let ends = path[path.index(after: open)..<close].split(separator: ".", omittingEmptySubsequences: false)
    guard ends.count == 3, ends[1].isEmpty, let first = Int(ends[0]), let last = Int(ends[2]), 0 <= first,
      first <= last,
      last - first < 1_000_000
    else { return [path] }
    return (first...last).map { number in
      let digits = "\(number)"
      let zeros = ends[0].hasPrefix("0") ? max(0, ends[0].count - digits.count) : 0
      return head + String(repeating: "0", count: zeros) + digits + tail
    }
  }
}

extension [TarArchive.Sample] {
  /// Where the last samples are that have the key `key`.
  fileprivate func trailing(_ key: String) -> Range<Int> {
    (lastIndex { $0.key != key } ?? -1) + 1..<count
  }
}
