import DiTEvents
import Foundation
import Testing

/// Against TensorBoard: its bytes, and what it reads back.
@Suite("TensorBoard event files") struct EventFileTests {
  /// Polynomial and check value of CRC-32C (RFC 3720, B.4, and the catalog's "123456789").
  @Test("CRC-32C gives the check values of RFC 3720")
  func checksums() {
    #expect(CRC32C.value("123456789".utf8) == 0xE306_9283)
    #expect(CRC32C.value([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(CRC32C.value([UInt8](repeating: 255, count: 32)) == 0x62A8_AB43)
    #expect(CRC32C.value((0..<32).map { UInt8($0) }) == 0x46DD_794E)
  }

  /// What `tensorboard.summary.writer.record_writer.RecordWriter` (2.21.0) writes for the same five events, in hexadecimal:
  /// file version, the start of a session at step 0, a scalar at step 7, a picture at step 300, a start at step 301.
  private static let tensorBoardBytes = """
    1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c\
    0d000000000000003c37b83409000000000000f83f3a020801b718825c\
    2300000000000000b09f774309000000000000044010072a160a140a0d747261696e696e672f6c6f7373150000803e4902e2d6\
    2700000000000000bbe1b146090000000000000c4010ac022a190a170a0773616d706c6573220c080210031803220489504e4736023090\
    100000000000000095fbfe1809000000000000124010ad023a02080146339cbc
    """

  @Test("An event file has the bytes that TensorBoard's RecordWriter writes for the same events")
  func sameBytesAsTensorBoard() throws {
    let folder = try Folder()
    var time = 1.5
    let first = try EventFile(in: folder.path, after: 0) { time }
    time = 2.5
    try first.write(step: 7, ["training/loss": 0.25, "left out": nil])
    time = 3.5
    try first.write(step: 300, "samples", png: [0x89, 0x50, 0x4E, 0x47], width: 3, height: 2, channels: 3)
    time = 4.5
    let second = try EventFile(in: folder.path, after: 300) { time }
    #expect(folder.names == ["events.out.tfevents.0000000001.dit", "events.out.tfevents.0000000004.dit"])
    let (whole, resumed) = (try hexadecimal(first.path), try hexadecimal(second.path))
    // The second file begins with a version of its own: 40 bytes.
    #expect(whole + resumed.dropFirst(80) == Self.tensorBoardBytes)
    let version = Self.tensorBoardBytes.prefix(80)
    #expect(
      resumed.prefix(80).dropFirst(42).prefix(30) == version.dropFirst(42).prefix(30), "the same but for its time")
  }

  /// Two in one second keep apart, in order.
  @Test("Event files opened in the same second get names that do not collide and sort in order")
  func namesInTheSameSecond() throws {
    let folder = try Folder()
    for _ in 0..<3 { _ = try EventFile(in: folder.path, after: 0) { 1_700_000_000.25 } }
    let name = "events.out.tfevents.1700000000.dit"
    #expect(folder.names == [name, "\(name).001", "\(name).002"])
  }

  private func hexadecimal(_ path: String) throws -> String {
    try Data(contentsOf: URL(filePath: path)).map { String(format: "%02x", $0) }.joined()
  }
}

private final class Folder {
  let url = FileManager.default.temporaryDirectory.appending(path: "events-\(UUID().uuidString)")
  var path: String { url.path(percentEncoded: false) }

  init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(at: url) }

  var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }
}
