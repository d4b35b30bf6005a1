import DiTImaging
import DiTTensor

/// What libFuzzer calls with every input: the bytes are read in every way, as they are, and once more with the checksums
/// of a PNG made right, so that what lies behind them is reached. Pictures must be refused by an error or read, at the
/// size their header says and within the limits; a trap, a sanitizer's report or memory out of proportion is a bug.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
  check(bytes)
  if let repaired = withChecksums(bytes), repaired != bytes { check(repaired) }
  return 0
}

private let limits = ImageLimits(
  pixels: 1 << 14, side: 1 << 12, fileBytes: 1 << 14, memoryBytes: 1 << 19, scans: 20, wholePixels: 1 << 8)

private func check(_ bytes: [UInt8]) {
  let header = result { () throws(DiTError) in try ImageHeader(of: bytes) }
  let image = result { () throws(DiTError) in try Image(encoded: bytes, limits: limits) }
  _ = result { () throws(DiTError) in try PNGText.entries(inPNG: bytes) }
  // A size from the input's own bytes, so that libFuzzer chooses it.
  let (width, height) = (Int(bytes.last ?? 0) % 40 + 1, Int(bytes.dropLast().last ?? 0) % 40 + 1)
  let fitted = result { () throws(DiTError) in
    try Image(encoded: bytes, limits: limits, fittedTo: (width, height), reducing: true)
  }
  // Row by row, or reduced by the decoder.
  let streamed = result { () throws(DiTError) in
    try Image(encoded: bytes, limits: limits, fittedTo: (width, height))
  }
  precondition(fitted.map { $0.width == width && $0.height == height } ?? true, "fitted to another size")
  guard let image else { return }
  guard let header, image.width == header.width, image.height == header.height else {
    preconditionFailure("the header says another size")
  }
  precondition(image.channels == (header.channels - 1) / 2 * 2 + 1, "the header says other channels")
  let side = max(image.width, image.height)
  precondition(image.width * image.height <= limits.pixels && side <= limits.side, "larger than allowed")
  guard fitted != nil, let streamed else { preconditionFailure("an image that can be read cannot be fitted") }
  let whole = image.fitted(width: width, height: height)
  _ = whole.converted(toChannels: 4 - image.channels)
  guard header.format != .webp else { return }
  // Sums of turned pictures go another way: they may be rounded otherwise.
  let differences = zip(streamed.pixels, whole.pixels).map { abs(Int($0) - Int($1)) }
  precondition(streamed.channels == whole.channels && differences.max() ?? 0 <= 1, "fitted to other pixels")
}

private func result<Value>(_ body: () throws(DiTError) -> Value) -> Value? {
  do {
    return try body()
  } catch {
    let line = error.description
    precondition(!line.isEmpty && line.utf8.count < 1000, "a message of \(line.utf8.count) bytes")
    precondition(!line.contains { $0.isNewline }, "a message of several lines")
    return nil
  }
}

/// A PNG whose chunks get the checksums they should have; nil for what is not a PNG.
private func withChecksums(_ bytes: [UInt8]) -> [UInt8]? {
  guard bytes.count > 8, bytes[1...3].elementsEqual("PNG".utf8) else { return nil }
  var (result, start) = (bytes, 8)
  while start + 12 <= bytes.count {
    let length = bytes[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
    guard length <= bytes.count - start - 12 else { break }
    let end = start + 8 + length
    let sum = checksum(bytes[start + 4..<end])
    for index in 0..<4 { result[end + index] = UInt8(truncatingIfNeeded: sum >> UInt32(24 - 8 * index)) }
    start = end + 4
  }
  return result
}

/// CRC-32 as PNG has it.
private func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
  ~bytes.reduce(~0) { sum, byte in
    (0..<8).reduce(sum ^ UInt32(byte)) { value, _ in value >> 1 ^ (value & 1 == 1 ? 0xEDB8_8320 : 0) }
  }
}
