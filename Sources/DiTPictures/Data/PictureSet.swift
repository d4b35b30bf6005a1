import DiTEvaluation
import DiTTensor
import DiTTraining

/// Pictures on disk that become training data, or samples to be judged, at the size that a model asks for: a folder
/// (``ImageFolder``), tar archives (``TarArchive``), files of MNIST's format (``IDXPictures``).
public protocol PictureSet: Sendable {
  /// Where they are; errors call them so.
  var path: String { get }
  /// N.
  var count: Int { get }
  /// The class of each, where there are classes.
  var labels: [Int]? { get }
  /// What they say of their classes.
  var classes: DataClasses { get }
  /// Notes for the user on what was passed over, one per line.
  var notes: [String] { get }
  /// (C, H, W) of all of them; nil where each picture has its own size.
  var shape: [Int]? { get }

  /// The pictures as training data: gray or RGB, resized by area until they just cover height × width, and cut to that from their
  /// middle; in memory as bytes where they fit ``PictureOptions/cacheBytes``, else read while the network trains.
  ///
  /// - Parameters:
  ///   - channels: 1 or 3.
  ///   - height: of the pictures that are made.
  ///   - width: of the pictures that are made.
  ///   - options: how files are read and kept.
  /// - Returns: the data, and notes for the user on what was skipped.
  /// - Throws: `DiTError`.
  func dataset(
    channels: Int, height: Int, width: Int, options: PictureOptions
  ) throws(DiTError) -> (data: Dataset, notes: [String])
}

extension PictureSet {
  public var shape: [Int]? { nil }
}

/// Finds out what pictures a path holds.
public enum PictureSets {
  /// The pictures at `path`: an images file of MNIST's format or a folder of such files, a tar archive, `NAME{000..009}.tar` or a
  /// folder of tar archives, or a folder of pictures.
  ///
  /// - Parameters:
  ///   - path: a file or a folder.
  ///   - part: which of the files of a folder of MNIST's format are meant, `train` or `test`; `train` where it is not said.
  /// - Returns: the pictures, and whether `part` was looked after; nil where there are none of these.
  /// - Throws: `DiTError`.
  public static func open(
    _ path: String, part: SampleSet.Part? = nil
  ) throws(DiTError) -> (pictures: any PictureSet, isPart: Bool)? {
    if let set = try IDXPictures(at: path, part: part) { return (set, part != nil && ImageFolder.isFolder(path)) }
    if let archive = try TarArchive(at: path) { return (archive, false) }
    return ImageFolder.isFolder(path) ? (try ImageFolder(path), false) : nil
  }

  /// Whether `path` is one of them, as far as names tell.
  public static func isOne(_ path: String) -> Bool {
    ImageFolder.isFolder(path) || TarArchive.isOne(path) || IDXFile.isOne(path)
  }
}
