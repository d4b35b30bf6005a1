import DiTEvaluation
import DiTFiles
import DiTImaging
import DiTTensor
import DiTTraining

/// Gray pictures of MNIST's format with their labels: MNIST, Fashion-MNIST, KMNIST, EMNIST.
///
/// The labels are of the file whose name has `labels` for `images` and `idx1` for `idx3`, with or without `.gz`. EMNIST's pictures,
/// which are stored column by column, are turned upright, and its classes have the names of its mapping file; a file is EMNIST's
/// where its name says so.
public struct IDXPictures: PictureSet {
  public let path: String
  /// (1, H, W).
  public let shape: [Int]?
  public let count: Int
  public let labels: [Int]?
  public let notes: [String]
  private let classNames: [String]?
  private let height, width: Int
  /// (N, H, W).
  private let pixels: [UInt8]

  public var classes: DataClasses {
    DataClasses(
      source: path, names: classNames, statedCount: classNames?.count,
      count: classNames?.count ?? labels?.max().map { $0 + 1 })
  }

  /// The pictures of the file at `path`, or of a folder that has such files: those of training, or of a test.
  ///
  /// - Returns: nil where there are none.
  /// - Throws: `DiTError` for a damaged file, labels that are not one for each picture, and a folder with several sets.
  public init?(at path: String, part: SampleSet.Part? = nil) throws(DiTError) {
    if ImageFolder.isFolder(path) {
      guard let file = try Self.file(in: path, part ?? .train) else { return nil }
      try self.init(file: file)
    } else {
      guard IDXFile.isOne(path) else { return nil }
      try self.init(file: path)
    }
  }

  private init(file path: String) throws(DiTError) {
    let images: IDXFile
    do throws(DiTError) { images = try IDXFile(contentsOf: path) } catch { throw error.of(.data) }
    guard images.shape.count == 3 else {
      throw DiTError(
        data: path, nil, .unusable("expected pictures, of 3 extents; found extents \(Message.shape(images.shape))"))
    }
    self.path = path
    (count, height, width) = (images.shape[0], images.shape[1], images.shape[2])
    shape = [1, height, width]
    let name = Paths.name(of: path)
    let folder = String(Substring(path.utf8.dropLast(name.utf8.count)))
    let isEMNIST = name.lowercased().hasPrefix("emnist-")
    pixels = isEMNIST ? Self.transposed(images.bytes, height, width) : images.bytes
    var notes = isEMNIST ? ["\(path): EMNIST stores pictures column by column: they are turned upright"] : []
    let labelFile = Self.labelNames(of: name).first { FileStamp(folder + $0) != nil }
    if let labelFile {
      let stored = try Self.labels(folder + labelFile, count: count)
      labels = stored
      classNames = isEMNIST ? Self.mapping(folder, name, greatest: stored.max() ?? 0) : nil
      // EMNIST's letters begin at 1.
      let bare = (classNames ?? []).enumerated().filter { [used = Set(stored)] in !used.contains($0.offset) }.map(
        \.element)
      if !bare.isEmpty {
        let more = bare.count > 5 ? ", …" : ""
        notes.append("\(path): no pictures of class \(bare.prefix(5).joined(separator: ", "))\(more)")
      }
    } else {
      (labels, classNames) = (nil, nil)
      notes.append("\(path): no labels beside it, a file such as \(Self.labelNames(of: name).first ?? "…labels…")")
    }
    self.notes = notes
  }

  private static func labels(_ path: String, count: Int) throws(DiTError) -> [Int] {
    do throws(DiTError) {
      let file = try IDXFile(contentsOf: path)
      guard file.shape == [count] else {
        throw DiTError(
          file: path, .entry("labels"), expected: "one for each of the \(count) pictures",
          found: "extents \(Message.shape(file.shape))")
      }
      return file.bytes.map(Int.init)
    } catch {
      throw error.of(.data)
    }
  }

  /// The names that the labels of an images file may have.
  private static func labelNames(of name: String) -> [String] {
    guard let place = name.range(of: "images", options: [.backwards, .caseInsensitive]) else { return [] }
    var plain = name.replacingCharacters(in: place, with: "labels")
    if let kind = plain.range(of: "idx3", options: .backwards) { plain.replaceSubrange(kind, with: "idx1") }
    return [plain, plain.hasSuffix(".gz") ? String(plain.dropLast(3)) : plain + ".gz"]
  }

  /// The images file of a part in a folder.
  private static func file(in folder: String, _ part: SampleSet.Part) throws(DiTError) -> String? {
    let words = part == .train ? ["train"] : ["t10k", "test"]
    let all: [String]
    do throws(DiTError) { all = try Directory.listing(folder) } catch { return nil }
    let images = all.filter { name in
      let name = name.lowercased()
      return name.contains("images") && name.contains("idx3") && words.contains { name.contains($0) }
    }.sorted(by: FileName.isBefore)
    let packed = Set(images.filter { $0.hasSuffix(".gz") })
    let names = images.filter { !packed.contains($0 + ".gz") }  // a file and the same packed are one
    guard names.count < 2 else {
      throw DiTError(
        data: folder, nil,
        .unusable("holds several sets; expected one of its files: \(names.prefix(8).joined(separator: ", "))"))
    }
    guard let name = names.first ?? images.first else { return nil }
    return "\(folder)/\(name)"
  }

  /// EMNIST's names of classes, `emnist-letters-mapping.txt`: a line for a label, with the code points of its characters.
  private static func mapping(_ folder: String, _ name: String, greatest: Int) -> [String]? {
    let split = name.split(separator: "-").dropFirst().first ?? ""
    do throws(DiTError) {
      let bytes = try RegularFile(path: "\(folder)emnist-\(split)-mapping.txt").bytes(upTo: 1 << 16)
      var names: [Int: String] = [:]
      for line in String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline) {
        let words = line.split(separator: " ").compactMap { Int($0) }
        guard words.count > 1, 0...255 ~= words[0], let scalar = Unicode.Scalar(words[1]) else { return nil }
        names[words[0]] = String(Character(scalar))
      }
      let all = (0...max(greatest, names.keys.max() ?? 0)).map { names[$0] ?? "\($0)" }
      return Set(all).count == all.count ? all : nil
    } catch {
      return nil
    }
  }

  private static func transposed(_ pixels: [UInt8], _ height: Int, _ width: Int) -> [UInt8] {
    guard height == width else { return pixels }
    var turned = pixels
    for start in stride(from: 0, to: pixels.count, by: height * width) {
      for y in 0..<height {
        for x in 0..<width { turned[start + y * width + x] = pixels[start + x * height + y] }
      }
    }
    return turned
  }

  public func dataset(
    channels: Int, height: Int, width: Int, options: PictureOptions = PictureOptions()
  ) throws(DiTError) -> (data: Dataset, notes: [String]) {
    precondition(channels == 1 || channels == 3, "pictures of \(channels) channels")
    var digest = Digest()
    for extent in [count, self.height, self.width] { digest.add(UInt64(extent)) }
    for byte in pixels { digest.add(UInt64(byte)) }
    let source = Source(
      name: path, channels: channels, height: height, width: width, digest: digest.value, stored: self)
    let size = channels * height * width
    guard count <= options.cacheBytes / size else {
      return (try Dataset(source, labels: labels, classNames: classNames), [])
    }
    if channels == 1, height == self.height, width == self.width {
      return (try Dataset(source, pixels: pixels, labels: labels, classNames: classNames), [])
    }
    var all = [UInt8](repeating: 0, count: count * size)
    var sample = [UInt8](repeating: 0, count: size)
    for index in 0..<count {
      var span = sample.mutableSpan
      source.read(index, into: &span)
      all.replaceSubrange(index * size..<(index + 1) * size, with: sample)
    }
    return (try Dataset(source, pixels: all, labels: labels, classNames: classNames), [])
  }

  /// The pictures at a model's size.
  private struct Source: ImageSource {
    let name: String
    let channels, height, width: Int
    let digest: UInt64
    let stored: IDXPictures

    var count: Int { stored.count }

    func read(_ index: Int, into pixels: inout MutableSpan<UInt8>) {
      let area = stored.height * stored.width
      let image = Image(
        width: stored.width, height: stored.height, channels: 1,
        pixels: Array(stored.pixels[index * area..<(index + 1) * area])
      ).fitted(width: width, height: height)
      for channel in 0..<channels {
        for i in 0..<height * width { pixels[channel * height * width + i] = image.pixels[i] }
      }
    }
  }
}
