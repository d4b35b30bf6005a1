import DiTFiles
import DiTTensor

/// What libFuzzer calls with every input. The bytes are opened as a file; where they are not the beginning of an archive,
/// also as the pickle of a well-formed one with four storages, and of a well-formed file of torch before 1.6. Every tree
/// is chosen, and every tensor read in every way. Files must be refused by an error or read; a trap, a sanitizer's report
/// or memory out of proportion is a bug.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
  open(bytes)
  if bytes.first != UInt8(ascii: "P") {
    open(Archive.torch(pickle: bytes))
    open(Archive.legacy(pickle: bytes))
  }
  return 0
}

private func open(_ bytes: [UInt8]) {
  readAdam(bytes)
  for choice: TreeChoice in [.averagePreferred, .average, .trained, .whole, .named(["best", "model"])] {
    do throws(DiTError) {
      let file = try TorchFile(bytes: bytes, path: "input", tree: choice)
      precondition(choice != .average || file.isAverage, "no average")
      precondition(choice != .trained || !file.isAverage, "an average")
      precondition(choice != .whole || file.tree.isEmpty, "a part of the whole")
      read(file, size: bytes.count)
    } catch {
      check(error)
      if case .averagePreferred = choice { return }  // no tree at all
    }
  }
}

/// The optimizer's state of a training checkpoint.
private func readAdam(_ bytes: [UInt8]) {
  do throws(DiTError) {
    switch try TorchAdam.read(bytes: bytes, path: "input") {
    case .none: break
    case .unknown(let reason): precondition(!reason.isEmpty && reason.utf8.count < 3000, "a reason of \(reason.count)")
    case .state(let adam):
      precondition(adam.steps > 0)
      for name in adam.names {
        let moments = try adam.moments(name)
        precondition(moments.first.count == moments.second.count, "two sizes of moments")
      }
    }
  } catch {
    check(error)
  }
}

private func check(_ error: DiTError) {
  let line = error.description
  precondition(!line.isEmpty && line.utf8.count < 3000, "a message of \(line.utf8.count) bytes")
  precondition(!line.contains { $0.isNewline }, "a message of several lines")
}

private func read(_ file: TorchFile, size: Int) {
  var elements = 0
  for entry in file.entries {
    precondition(entry.storage.lowerBound >= 0 && entry.storage.upperBound <= size, "\(entry.name) outside the file")
    precondition(entry.count == entry.shape.reduce(1, *), "the size of \(entry.name)")
    elements += entry.count
    let numbers = try? file.numbers(entry.name)
    let isReadable = entry.dtype.isReadableFloat || entry.dtype.isReadableInteger
    precondition((numbers != nil) == isReadable, "\(entry.name) of dtype \(entry.dtype)")
    precondition(numbers.map { $0.shape == entry.shape && $0.count == entry.count } ?? true)
    let slice = try? file.slice(entry.name)
    precondition((slice != nil) == entry.dtype.isReadableFloat, "\(entry.name) of dtype \(entry.dtype)")
    precondition(slice.map { $0.count == entry.count } ?? true, "\(entry.name) has two sizes")
    if let integers = try? file.integers(entry.name) { precondition(integers.values.count == entry.count) }
  }
  precondition(elements <= size, "\(elements) elements of a file of \(size) bytes")
  precondition((try? StateDict.check(file, holds: file.keys)) != nil, "a file differs from itself")
}

/// A ZIP archive of plain bytes, as torch writes it: storages 0 to 3 of 64, 16, 6 and 0 bytes, and a pickle.
private enum Archive {
  private static let storages: [(name: String, bytes: [UInt8])] = [64, 16, 6, 0].enumerated().map { index, count in
    ("a/data/\(index)", (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37) })
  }

  /// The storages with their headers, and their part of the directory.
  private static let fixed: (entries: [UInt8], directory: [UInt8]) = {
    var (entries, directory): ([UInt8], [UInt8]) = ([], [])
    for storage in storages { append(storage.name, storage.bytes, to: &entries, &directory) }
    return (entries, directory)
  }()

  static func torch(pickle: [UInt8]) -> [UInt8] {
    var (file, directory) = fixed
    append("a/data.pkl", pickle, to: &file, &directory)
    let start = file.count
    file += directory
    file += [0x50, 0x4B, 5, 6, 0, 0, 0, 0] + bytes(storages.count + 1, 2) + bytes(storages.count + 1, 2)
    file += bytes(directory.count, 4) + bytes(start, 4) + [0, 0]
    return file
  }

  /// A file of torch before 1.6, with the same storages.
  static func legacy(pickle: [UInt8]) -> [UInt8] {
    func text(_ text: String) -> [UInt8] { [0x58] + bytes(text.utf8.count, 4) + Array(text.utf8) }
    let magic: [UInt8] = [0x80, 2, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E]
    let head: [UInt8] = magic + [0x80, 2, 0x4D, 0xE9, 3, 0x2E]
    let system: [UInt8] = [0x80, 2, 0x7D] + text("little_endian") + [0x88, 0x73, 0x2E]
    let keys: [UInt8] = [0x80, 2, 0x5D, 0x28] + (0..<3).flatMap { text("\($0)") } + [0x65, 0x2E]
    // A key's size counts elements of its first type in the pickle: floats, halves and bytes by the seeds.
    let data = zip(storages, [4, 2, 1]).flatMap { storage, size in bytes(storage.bytes.count / size, 8) + storage.bytes
    }
    return head + system + pickle + keys + data
  }

  private static func append(_ name: String, _ data: [UInt8], to file: inout [UInt8], _ directory: inout [UInt8]) {
    let sizes = [0, 0, 0, 0] + bytes(data.count, 4) + bytes(data.count, 4) + bytes(name.utf8.count, 2) + [0, 0]
    let (flags, start): ([UInt8], Int) = ([0, 0, 0, 8, 0, 0, 0, 0, 0, 0], file.count)
    file += [0x50, 0x4B, 3, 4] + flags + sizes + Array(name.utf8) + data
    directory += [0x50, 0x4B, 1, 2, 0, 0] + flags + sizes + [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    directory += bytes(start, 4) + Array(name.utf8)
  }

  private static func bytes(_ value: Int, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }
}
