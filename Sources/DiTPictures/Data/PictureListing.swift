import DiTFiles
import DiTImaging
import DiTTensor
import DiTTraining
import Foundation

/// How pictures are read.
public struct PictureOptions: Sendable {
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

/// Pictures of files, or of parts of files, and what class each belongs to. Nothing is decoded yet.
struct PictureListing: Sendable {
  /// What errors call it.
  let name: String
  let entries: [PictureEntry]
  /// The class of each, where there are classes.
  let labels: [Int]?
  let classNames: [String]?

  /// The pictures as training data: gray or RGB, resized by area until they just cover height × width, and cut to
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
  func dataset(
    channels: Int, height: Int, width: Int, options: PictureOptions
  ) throws(DiTError) -> (data: Dataset, notes: [String]) {
    precondition(channels == 1 || channels == 3, "pictures of \(channels) channels")
    let looks = look(at: Array(entries.indices), options.limits)
    let all = source(Array(entries.indices), channels, height, width, options.limits, looks)
    let isKept = entries.count <= options.cacheBytes / all.sampleBytes
    let isEachDecoded = isKept || options.brokenImages == .skip
    let suspects = entries.indices.filter { isEachDecoded || !looks.areWhole[$0] }
    var decoded = DecodePass.run(all, suspects, keeping: isKept)
    guard !decoded.broken.isEmpty else {
      return (try data(all, decoded.pixels, labels), [])
    }
    guard options.brokenImages == .skip, decoded.broken.count < entries.count else {
      throw Self.error(decoded.broken)
    }
    let broken = Set(decoded.broken.map(\.index))
    let kept = entries.indices.filter { !broken.contains($0) }
    if isKept { decoded.drop(broken, sampleBytes: all.sampleBytes) }
    // The stamps of before the decoding, which tell of a change since; the digest is of what is kept.
    var keptLooks = look(at: kept, options.limits)
    keptLooks.stamps = kept.map { looks.stamps[$0] }
    let rest = source(kept, channels, height, width, options.limits, keptLooks)
    let names = decoded.broken.map { "\(entries[$0.index].path) (\($0.error.problem))" }
    let note = ImageFolder.note(broken.count, "broken picture", "skipped", names, limit: 20)
    return (
      try data(rest, decoded.pixels, labels.map { labels in kept.map { labels[$0] } }),
      [FileName.shown("\(name): \(note)")]
    )
  }

  private func data(_ source: PictureSource, _ pixels: [UInt8]?, _ labels: [Int]?) throws(DiTError) -> Dataset {
    guard let pixels else { return try Dataset(source, labels: labels, classNames: classNames) }
    return try Dataset(source, pixels: pixels, labels: labels, classNames: classNames)
  }

  private func source(
    _ indices: [Int], _ channels: Int, _ height: Int, _ width: Int, _ limits: ImageLimits, _ looks: Looks
  ) -> PictureSource {
    PictureSource(
      name: name, channels: channels, height: height, width: width, limits: limits,
      files: zip(indices, looks.stamps).map { PictureSource.File(entry: entries[$0], stamp: $1) }, digest: looks.digest)
  }

  /// What is known of pictures before they are decoded: little of each, as there may be millions.
  private struct Looks {
    var stamps: [FileStamp?] = []
    var areWhole: [Bool] = []
    /// Of the pictures' paths, sizes, heads and tails.
    var digest: UInt64 = 0
  }

  private func look(at indices: [Int], _ limits: ImageLimits) -> Looks {
    var looks = Looks()
    var digest = Digest()
    var stamps: [String: FileStamp?] = [:]
    for index in indices {
      let entry = entries[index]
      let stamp = stamps[entry.file] ?? FileStamp(entry.file)
      if entry.range != nil { stamps[entry.file] = stamp }  // many pictures to a file
      let ends = stamp.flatMap { FileHeadAndTail(entry.file, entry.range ?? 0..<$0.size) }
      for byte in FileName.bytes(of: entry.path) { digest.add(UInt64(byte)) }
      digest.add(UInt64(entry.range?.count ?? stamp?.size ?? 0))
      ends?.add(to: &digest)
      looks.stamps.append(stamp)
      looks.areWhole.append(Self.looksWhole(ends, limits))
    }
    looks.digest = digest.value
    return looks
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
