import DiTFiles
import DiTTensor
import Foundation

/// What libFuzzer calls with every input: a file of the bytes is read as a tar archive, as it is and with the checksums of its headers
/// made right, so that what lies behind them is reached, and as a file of MNIST's format. Files must be refused by an error or read, and
/// what is found lies in the file; a trap, a sanitizer's report or memory out of proportion is a bug.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
  checkTar(bytes)
  let repaired = withChecksums(bytes)
  if repaired != bytes { checkTar(repaired) }
  checkIDX(bytes)
  return 0
}

/// In memory where there is a file system for it: the files are written anew for every input.
private let folder = FileManager.default.isWritableFile(atPath: "/dev/shm") ? "/dev/shm" : NSTemporaryDirectory()
private let path = "\(folder)/fuzz-archives-\(ProcessInfo.processInfo.processIdentifier)"

private func withFile<Value>(_ bytes: [UInt8], _ body: () throws(DiTError) -> Value) -> Value? {
  precondition(FileManager.default.createFile(atPath: path, contents: Data(bytes)), "\(path) cannot be written")
  defer { try? FileManager.default.removeItem(atPath: path) }
  do throws(DiTError) {
    return try body()
  } catch {
    let line = error.description
    precondition(!line.isEmpty && line.utf8.count < 3000, "a message of \(line.utf8.count) bytes")
    precondition(!line.contains { $0.isNewline }, "a message of several lines")
    return nil
  }
}

private func checkTar(_ bytes: [UInt8]) {
  guard let archive = withFile(bytes, { () throws(DiTError) in try TarFile(contentsOf: path) }) else { return }
  for member in archive.members {
    precondition(member.range.lowerBound % 512 == 0, "a member between two blocks")
    precondition(member.range.upperBound <= bytes.count, "a member beyond the file")
  }
  precondition(archive.members.count + archive.links.count <= bytes.count / 512, "more members than headers")
}

private func checkIDX(_ bytes: [UInt8]) {
  let found = withFile(bytes) { () throws(DiTError) in (IDXFile.isOne(path), try IDXFile(contentsOf: path)) }
  guard let (isOne, file) = found else { return }
  precondition(isOne, "a file that can be read is not recognized")
  precondition(1...4 ~= file.shape.count && file.shape.reduce(1, *) == file.bytes.count, "elements of another number")
  if bytes.starts(with: [0, 0, 8]) {
    precondition(file.bytes == Array(bytes.suffix(file.bytes.count)), "other elements than the file's")
  }
}

/// Every header where an archive has one, with the sum of its bytes.
private func withChecksums(_ bytes: [UInt8]) -> [UInt8] {
  var (result, offset) = (bytes, 0)
  while offset + 512 <= result.count {
    let header = result[offset..<offset + 512]
    guard header.contains(where: { $0 != 0 }) else { break }
    for index in 148..<156 { result[offset + index] = UInt8(ascii: " ") }
    let sum = result[offset..<offset + 512].reduce(0) { $0 + Int($1) }
    for index in 0..<6 { result[offset + 148 + index] = UInt8(0x30 + sum >> (3 * (5 - index)) & 7) }
    result[offset + 154] = 0
    let digits = header[(offset + 124)..<(offset + 136)].prefix { 0x30...0x37 ~= $0 }
    let size = digits.reduce(0) { $0 << 3 | Int($1 - 0x30) }
    offset += 512 + (size + 511) / 512 * 512
  }
  return result
}
