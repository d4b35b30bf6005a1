import DiTTensor

/// A ZIP archive of stored entries that is being written: it appears complete or not at all, and equal entries give equal bytes.
///
/// Every size is written in the 64-bit form (ZIP64), so that large archives take no other path than small ones. The date is
/// the first that a ZIP knows.
package struct ZipWriter: ~Copyable {
  private let file: AtomicFile
  private let alignment: Int
  private var records: [ZipRecord] = []
  private var offset = 0

  /// Starts a file that is to become `path`.
  ///
  /// - Parameter alignment: every entry's data start at a multiple of it.
  /// - Throws: `DiTError`.
  package init(path: String, alignment: Int = 1) throws(DiTError) {
    file = try AtomicFile(path: path)
    self.alignment = alignment
  }

  /// Starts an entry of `size` bytes, which are to be written next.
  ///
  /// - Throws: `DiTError`.
  package mutating func start(_ name: String, size: Int, checksum: UInt32) throws(DiTError) {
    let record = ZipRecord(name: name, size: size, offset: offset, checksum: checksum, alignment: alignment)
    let header = record.local
    try file.write(header.span)
    offset += header.count + size
    records.append(record)
  }

  /// Bytes of the entry that was started last.
  ///
  /// - Throws: `DiTError`.
  package func write(_ bytes: Span<UInt8>) throws(DiTError) { try file.write(bytes) }

  /// A whole entry.
  ///
  /// - Throws: `DiTError`.
  package mutating func write(_ name: String, _ bytes: [UInt8]) throws(DiTError) {
    try start(name, size: bytes.count, checksum: Zlib.checksum(bytes.span))
    try write(bytes.span)
  }

  /// Ends the archive and puts the file in its place.
  ///
  /// - Throws: `DiTError`.
  package consuming func commit() throws(DiTError) {
    try file.write(ZipRecord.directory(records, at: offset).span)
    try file.commit()
  }
}
