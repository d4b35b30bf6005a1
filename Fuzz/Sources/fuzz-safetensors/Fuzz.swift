import DiTFiles
import DiTTensor

/// What libFuzzer calls with every input. The bytes are opened twice, as a file and as a header that gets its true length
/// and as much data as it claims, and every tensor is read in every way. Files must be refused by an error or read; a
/// trap, a sanitizer's report or memory out of proportion is a bug.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
  _ = open(bytes)
  let length = (0..<8).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
  if case .dataSize(let claimed, found: 0) = open(length + bytes), claimed < 1 << 16 {
    let problem = open(length + bytes + (0..<claimed).map { UInt8(truncatingIfNeeded: $0 &* 37) })
    precondition(problem == nil, "a file of the size it claims is refused")
  }
  return 0
}

/// Opens and reads `bytes`; what is wrong with them, if anything.
private func open(_ bytes: [UInt8]) -> SafetensorsProblem? {
  do throws(DiTError) {
    let file = try SafetensorsFile(bytes: bytes, path: "input")
    read(file)
    return nil
  } catch {
    let line = error.description
    precondition(!line.isEmpty && line.utf8.count < 2000, "a message of \(line.utf8.count) bytes")
    precondition(!line.contains { $0.isNewline }, "a message of several lines")
    return error.cause(SafetensorsProblem.self)
  }
}

private func read(_ file: SafetensorsFile) {
  var end = file.header.entries.first?.byteRange.lowerBound ?? 0
  for entry in file.header.entries {
    precondition(entry.byteRange.lowerBound == end, "a hole before \(entry.name)")
    precondition(entry.count * entry.dtype.bitWidth == entry.byteRange.count * 8, "the size of \(entry.name)")
    end = entry.byteRange.upperBound
    precondition(file.entry(named: entry.name) == entry, "\(entry.name) is found as another")
    let numbers = try? file.numbers(entry.name)
    let isReadable = entry.dtype.isReadableFloat || entry.dtype.isReadableInteger
    precondition((numbers != nil) == isReadable, "\(entry.name) of dtype \(entry.dtype)")
    precondition(numbers.map { $0.shape == entry.shape && $0.count == entry.count } ?? true)
    let slice = try? file.slice(entry.name)
    precondition((slice != nil) == entry.dtype.isReadableFloat, "\(entry.name) of dtype \(entry.dtype)")
    let tensor = try? file.tensor(entry.name)
    precondition(tensor?.count == slice?.count, "\(entry.name) has two sizes")
    if let integers = try? file.integers(entry.name) { precondition(integers.values.count == entry.count) }
  }
  for choice: TreeChoice in [.averagePreferred, .average, .trained] {
    guard let chosen = try? ChosenTree(choice, of: file) else { continue }
    for key in chosen.store.keys {
      precondition(chosen.store.shape(of: key.name) == key.shape, "\(key.name) of a tree has two shapes")
      _ = try? chosen.store.slice(key.name)
    }
  }
  let keys = file.header.entries.map { (name: $0.name, shape: $0.shape) }
  precondition((try? StateDict.check(file, holds: keys)) != nil, "a file differs from itself")
}
