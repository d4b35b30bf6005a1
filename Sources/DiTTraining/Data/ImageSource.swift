import DiTTensor

/// Images that are read when they are wanted: files in a folder, records of a database.
///
/// A ``Dataset`` made of one is trained on without being held in memory: threads of its own read ahead of the training
/// step, in the order in which the run draws samples.
public protocol ImageSource: Sendable {
  /// What errors call the data.
  var name: String { get }
  /// N.
  var count: Int { get }
  /// C, 1 or 3.
  var channels: Int { get }
  /// H.
  var height: Int { get }
  /// W.
  var width: Int { get }
  /// A 64-bit digest of the data, so that a run is resumed with its own.
  var digest: UInt64 { get }

  /// Writes image `index`, (C, H, W), read as x/127.5 − 1, to the C·H·W elements of `pixels`. The same index gives the
  /// same bytes. Called from several threads at once.
  ///
  /// - Throws: `DiTError`, which ends the run.
  func read(_ index: Int, into pixels: inout MutableSpan<UInt8>) throws(DiTError)
}

/// What becomes of images that cannot be decoded.
public enum BrokenImages: String, CaseIterable, Sendable {
  /// They are an error.
  case refuse
  /// They are left out, by name.
  case skip
}
