import DiTNumpy
import DiTTensor

/// What libFuzzer calls with every input: the bytes are opened as an archive, every array of which is read in every way,
/// and as an array themselves. Files must be refused by an error or read, and what was read comes back equal from what is
/// written; a trap, a sanitizer's report or memory out of proportion is a bug.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
  let file = result { () throws(DiTError) in try NPZFile(bytes: bytes, path: "input") }
  if let file {
    precondition(Set(file.names).count == file.names.count, "a name twice")
    for name in file.names {
      guard let array = result({ () throws(DiTError) in try file.array(name) }) else { continue }
      guard let array else { preconditionFailure("an array of the directory is not found") }
      read(array)
      guard let images = result({ () throws(DiTError) in try file.images(name) }), let images else { continue }
      precondition(images.count * images.size == array.count, "images of another size")
      var pixels = [UInt8](repeating: 0, count: images.size)
      var span = pixels.mutableSpan
      for index in [0, images.count - 1] { images.copy(index, into: &span) }
    }
  }
  if let array = result({ () throws(DiTError) in try NPYArray(parsing: bytes, path: "input") }) {
    precondition(array.bytes.count < count, "an array larger than its file")
    read(array)
  }
  return 0
}

private func read(_ array: NPYArray) {
  precondition(
    array.count == array.shape.reduce(1, *) && array.bytes.count == array.count * array.type.size, "the size")
  let doubles = result { () throws(DiTError) in try array.doubles() }
  let integers = result { () throws(DiTError) in try array.integers() }
  precondition((doubles == nil) != (integers == nil), "elements of type \(array.type)")
  precondition(doubles?.count ?? integers?.count == array.count, "elements of another number")
  let copy = result { () throws(DiTError) in try NPYArray(parsing: array.npyData, path: "copy") }
  precondition(copy == array, "what was written is read as another array")
}

private func result<Value>(_ body: () throws(DiTError) -> Value) -> Value? {
  do {
    return try body()
  } catch {
    let line = error.description
    precondition(!line.isEmpty && line.utf8.count < 3000, "a message of \(line.utf8.count) bytes")
    precondition(!line.contains { $0.isNewline }, "a message of several lines")
    return nil
  }
}
