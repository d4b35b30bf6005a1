import DiTFiles
import DiTImaging
import DiTTensor
import DiTTraining
import Foundation

/// How a folder is read.
public struct ImageFolderOptions: Sendable {
  /// What becomes of pictures that cannot be decoded.
  public var brokenImages: BrokenImages
  /// Pictures that take no more bytes than this at the model's input size, one byte per value, are decoded once and kept.
  public var cacheBytes: Int
  /// What is refused before it is decoded.
  public var limits: ImageLimits

  public init(
    brokenImages: BrokenImages = .refuse, cacheBytes: Int = 512 << 20, limits: ImageLimits = ImageLimits()
  ) {
    self.brokenImages = brokenImages
    self.cacheBytes = cacheBytes
    self.limits = limits
  }
}

extension ImageFolder {
  /// The folder's pictures as training data: gray or RGB, resized by area until they just cover height × width, and cut to
  /// that from their middle.
  ///
  /// Where they fit `cacheBytes`, all are decoded now, on all cores, and kept as bytes. Otherwise they are decoded while the
  /// network trains, each time anew. Both train to the same bytes.
  ///
  /// A broken picture is found now when everything is decoded now, when pictures are to be skipped (all are then decoded
  /// once), or when its file is cut off or not a picture; one that is damaged inside, among more than the cache holds,
  /// ends the run when it is read.
  ///
  /// - Parameter channels: 1 or 3.
  /// - Returns: the data, and notes for the user on what was skipped.
  /// - Throws: `DiTError`, which names the first broken file and counts the others.
  public func dataset(
    channels: Int, height: Int, width: Int, options: ImageFolderOptions = ImageFolderOptions()
  ) throws(DiTError) -> (data: Dataset, notes: [String]) {
    precondition(channels == 1 || channels == 3, "pictures of \(channels) channels")
    let ends = files.indices.map { index in
      let path = "\(self.path)/\(files[index])"
      let stamp = FileStamp(path)
      return (stamp: stamp, ends: stamp.flatMap { FileHeadAndTail(path, size: $0.size) })
    }
    let all = source(Array(files.indices), channels, height, width, options.limits, ends)
    let isKept = files.count <= options.cacheBytes / all.sampleBytes
    let isEachDecoded = isKept || options.brokenImages == .skip
    let suspects = files.indices.filter { isEachDecoded || !Self.looksWhole(ends[$0].ends, options.limits) }
    var decoded = DecodePass.run(all, suspects, keeping: isKept)
    guard !decoded.broken.isEmpty else {
      return (try data(all, decoded.pixels, labels), [])
    }
    guard options.brokenImages == .skip, decoded.broken.count < files.count else {
      throw Self.error(decoded.broken)
    }
    let broken = Set(decoded.broken.map(\.index))
    let kept = files.indices.filter { !broken.contains($0) }
    if isKept { decoded.drop(broken, sampleBytes: all.sampleBytes) }
    let rest = source(kept, channels, height, width, options.limits, ends)
    let names = decoded.broken.map { "\(files[$0.index]) (\($0.error.problem))" }
    let note = Self.note(broken.count, "broken picture", "skipped", names, limit: 20)
    return (
      try data(rest, decoded.pixels, labels.map { labels in kept.map { labels[$0] } }),
      [FileName.shown("\(path): \(note)")]
    )
  }

  private func data(_ source: FolderSource, _ pixels: [UInt8]?, _ labels: [Int]?) throws(DiTError) -> Dataset {
    guard let pixels else { return try Dataset(source, labels: labels, classNames: classNames) }
    return try Dataset(source, pixels: pixels, labels: labels, classNames: classNames)
  }

  private func source(
    _ indices: [Int], _ channels: Int, _ height: Int, _ width: Int, _ limits: ImageLimits,
    _ ends: [(stamp: FileStamp?, ends: FileHeadAndTail?)]
  ) -> FolderSource {
    var digest = Digest()
    for index in indices {
      for byte in FileName.bytes(of: files[index]) { digest.add(UInt64(byte)) }
      digest.add(UInt64(ends[index].stamp?.size ?? 0))
      ends[index].ends?.add(to: &digest)
    }
    return FolderSource(
      name: path, channels: channels, height: height, width: width, limits: limits,
      files: indices.map { FolderSource.File(path: files[$0], stamp: ends[$0].stamp) }, digest: digest.value)
  }

  /// Whether the head and tail of a file give no reason to doubt it.
  private static func looksWhole(_ ends: FileHeadAndTail?, _ limits: ImageLimits) -> Bool {
    guard let ends, ends.isWhole else { return false }
    do throws(DiTError) {
      let header = try ImageHeader(of: ends.head)
      return max(header.width, header.height) <= limits.side && header.width <= limits.pixels / header.height
    } catch {
      return error.isTruncatedImage  // the size stands further inside
    }
  }

  private static func error(_ broken: [(index: Int, error: DiTError)]) -> DiTError {
    let (first, others) = (broken[0].error, broken.dropFirst())
    guard !others.isEmpty else { return first }
    let names = others.prefix(3).map(\.error.name).joined(separator: ", ")
    let more = others.count > 3 ? ", …" : ""
    return DiTError(data: first.name, nil, .unusable("\(first.problem); \(others.count) more broken: \(names)\(more)"))
  }
}
