/// A JPEG of mid-gray blocks, written from the standard (ITU T.81) with any header that a test wants.
struct TinyJPEG {
  var width = 8
  var height = 8
  /// Bits a sample.
  var precision: UInt8 = 8
  /// The frame's marker: 0xC0 baseline, 0xC3 lossless, …
  var frame: UInt8 = 0xC0
  /// Components, without subsampling.
  var components = 3
  /// Which components each scan holds, counted from 0.
  var scans: [[Int]] = [[0, 1, 2]]
  /// Before the frame.
  var segments: [UInt8] = []
  /// Blocks in a scan's data, for each of its components; nil: as many as the size says.
  var blocks: Int?

  var bytes: [UInt8] {
    let ones = [UInt8](repeating: 1, count: 64)
    let size = [height >> 8, height & 255, width >> 8, width & 255].map { UInt8($0) }
    let parts = (0..<components).flatMap { [UInt8($0 + 1), 0x11, 0] as [UInt8] }
    var data: [UInt8] = [0xFF, 0xD8] + segments
    data += Self.segment(0xDB, [0] + ones)
    data += Self.segment(frame, [precision] + size + [UInt8(components)] + parts)
    for table: UInt8 in [0x00, 0x10] {  // one code of one bit: no difference, end of block
      data += Self.segment(0xC4, [table, 1] + [UInt8](repeating: 0, count: 15) + [0])
    }
    for scan in scans {
      data += Self.segment(0xDA, [UInt8(scan.count)] + scan.flatMap { [UInt8($0 + 1), 0] as [UInt8] } + [0, 63, 0])
      let bits = 2 * scan.count * (blocks ?? (width + 7) / 8 * ((height + 7) / 8))
      data += [UInt8](repeating: 0, count: bits / 8)
      if bits % 8 > 0 { data.append(0xFF >> UInt8(bits % 8)) }
    }
    return data + [0xFF, 0xD9]
  }

  static func segment(_ marker: UInt8, _ body: [UInt8]) -> [UInt8] {
    [0xFF, marker, UInt8((body.count + 2) >> 8), UInt8((body.count + 2) & 255)] + body
  }
}
