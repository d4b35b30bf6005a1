import DiTFiles
import DiTNumpy
import DiTTensor
import Foundation
import Testing

@Suite("Archives of the .npz format") struct NPZFileTests {
  @Test("Archives that numpy wrote, stored and deflated, hold the arrays it was given")
  func readsWhatNumpyWrites() throws {
    let truth = try SafetensorsFile(contentsOf: fixture("evaluation.safetensors"))
    let images = try NPZFile(contentsOf: fixture("images-compressed.npz"))
    #expect(images.names == ["arr_0", "arr_1"])
    let pictures = try #require(try images.images("arr_0"))
    let expected = try truth.numbers("bytes.samples")
    #expect([pictures.count, pictures.channels, pictures.height, pictures.width] == expected.shape)
    #expect(planes(pictures).map(Float.init) == expected.elements)
    #expect(try images.array("arr_1")?.integers() == truth.integers("bytes.sample_labels").values)
    #expect(try images.array("arr_2") == nil && images.array("arr_0.npy") == nil)

    let stored = try NPZFile(contentsOf: fixture("statistics.npz"))
    let deflated = try NPZFile(contentsOf: fixture("statistics-compressed.npz"))
    #expect(stored.names == ["mu", "sigma"] && deflated.names == stored.names)
    for name in stored.names { #expect(try stored.array(name) == deflated.array(name), "\(name)") }
    let mean = try #require(try stored.array("mu")).doubles()
    let reference = try truth.numbers("regular.reference")
    let depth = mean.count
    for i in 0..<depth {
      let column = stride(from: i, to: reference.count, by: depth).map { Double(reference.elements[$0]) }
      #expect(abs(mean[i] - column.reduce(0, +) / Double(column.count)) < 1e-6, "mean \(i)")
    }
  }

  private func planes(_ images: NPZImages) -> [UInt8] {
    (0..<images.count).flatMap { index in
      var pixels = [UInt8](repeating: 0, count: images.size)
      var span = pixels.mutableSpan
      images.copy(index, into: &span)
      return pixels
    }
  }

  @Test(
    "Pictures (N, H, W, C) of a stored entry are read as (C, H, W) where they lie; others and damaged ones are refused")
  func images() throws {
    let six = [UInt8](repeating: 0, count: 6)
    let bytes = try archive([
      ("arr_0", NPYArray(shape: [2, 1, 2, 3], bytes: (0..<12).map { UInt8($0) })),
      ("flat", NPYArray(shape: [1, 2, 3], bytes: six)), ("none", NPYArray(shape: [1, 1, 0, 3], bytes: [])),
      ("floats", NPYArray(shape: [1, 1, 1, 1], floats: [1])),
    ])
    let path = FileManager.default.temporaryDirectory.appending(path: "images-\(UUID()).npz").path
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    for file in [try NPZFile(bytes: bytes, path: path), try NPZFile(contentsOf: path)] {
      let images = try #require(try file.images("arr_0"))
      #expect(planes(images) == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11])
      images.releasePages()
      #expect(planes(images).last == 11 && images.height == 1 && images.width == 2)
      #expect(try file.images("arr_1") == nil)
      let others = [("flat", "|u1 [1, 2, 3]"), ("none", "|u1 [1, 1, 0, 3]"), ("floats", "<f4 [1, 1, 1, 1]")]
      for (name, found) in others {
        let error = #expect(throws: DiTError.self) { try file.images(name) }
        #expect(error?.found == found && error?.expected == "|u1 (N, H, W, C), none of them 0")
      }
    }
    var damaged = bytes
    let place = try #require(bytes.indices.first { Array(bytes[$0...].prefix(4)) == [0, 1, 2, 3] })
    damaged[place] = 9
    let error = #expect(throws: DiTError.self) { try NPZFile(bytes: damaged, path: path).images("arr_0") }
    #expect(error?.expected?.hasPrefix("the checksum") == true, "\(String(describing: error))")
  }

  @Test("What is written is read back, and equal arrays give equal bytes")
  func roundTrip() throws {
    let arrays: [(name: String, array: NPYArray)] = [
      ("arr_0", NPYArray(shape: [2, 2], bytes: [1, 2, 3, 4])), ("mu", NPYArray(shape: [3], doubles: [0.5, -1, .nan])),
      ("größe", NPYArray(shape: [], floats: [2])), ("empty", NPYArray(shape: [0], integers: [])),
    ]
    let bytes = try archive(arrays)
    #expect(try archive(arrays) == bytes)
    let file = try NPZFile(bytes: bytes, path: "a.npz")
    #expect(file.names == arrays.map(\.name))
    for (name, array) in arrays { #expect(try file.array(name) == array, "\(name)") }
    #expect(try NPZFile(bytes: archive([]), path: "none").names == [])
  }

  @Test("An entry is laid out as the 64-bit form has it, seen by a reader of its own")
  func layout() throws {
    let array = NPYArray(shape: [3, 2], bytes: [9, 8, 7, 6, 5, 4])
    let entry = try StoredEntry(archive([("x", array)]))
    #expect(entry.name == "x.npy" && entry.data == array.npyData)
  }

  @Test("A comment behind the archive does no harm")
  func comment() throws {
    var bytes = try archive([("a", NPYArray(shape: [2], bytes: [1, 2]))])
    let comment = Array("PK\u{5}\u{6} is how the end begins".utf8)
    bytes.replaceSubrange((bytes.count - 2)..., with: little(comment.count, 2) + comment)
    #expect(try NPZFile(bytes: bytes, path: "a").array("a")?.integers() == [1, 2])
    bytes.removeLast()
    #expect(throws: DiTError.self) { try NPZFile(bytes: bytes, path: "a") }
  }

  // MARK: Hostile files

  @Test("Every shorter file is refused, and a changed byte gives an error or the arrays that were there")
  func damage() throws {
    let good = try fileBytes(fixture("images-compressed.npz"))
    let whole = try NPZFile(bytes: good, path: "good")
    let (images, labels) = (try whole.array("arr_0"), try whole.array("arr_1"))
    for count in good.indices {
      let error = #expect(throws: DiTError.self, "cut at \(count)") {
        try NPZFile(bytes: Array(good[..<count]), path: "bad.npz")
      }
      #expect(error?.description.hasPrefix("bad.npz: ZIP archive: ") == true)
    }
    for place in good.indices {
      for bit in [0, 3, 7] {
        var bad = good
        bad[place] ^= 1 << UInt8(bit)
        do throws(DiTError) {
          let file = try NPZFile(bytes: bad, path: "bad.npz")
          // A name may be another; the checksum keeps everything else from being it.
          if let array = try file.array("arr_0") { #expect(array == images, "byte \(place)") }
          if let array = try file.array("arr_1") { #expect(array == labels, "byte \(place)") }
        } catch {
          let line = error.description
          #expect(line.hasPrefix("bad.npz: ") && !line.contains { $0.isNewline }, "\(line)")
        }
      }
    }
  }

  @Test("Claims that the file cannot hold are refused before memory is taken for them")
  func claims() throws {
    let good = try fileBytes(fixture("images-compressed.npz"))
    let record = try #require(good.indices.first { good[$0...].starts(with: [0x50, 0x4B, 1, 2]) })
    let local = 0
    #expect(good[local...].starts(with: [0x50, 0x4B, 3, 4]))
    // The size of the first entry in both of its headers, where numpy's local one has it in 64 bits.
    let localSize = local + 30 + Int(good[26]) + 4
    #expect(good[record + 24] == good[localSize] && good[18..<26].allSatisfy { $0 == 255 }, "the 64-bit form")
    for claim in [0xF0F0_F0F0, 10_000_000] {
      var bomb = good
      bomb.replaceSubrange(record + 24..<record + 28, with: little(claim, 4))
      bomb.replaceSubrange(localSize..<localSize + 8, with: little(claim, 8))
      let error = #expect(throws: DiTError.self) { try NPZFile(bytes: bomb, path: "bomb.npz").array("arr_0") }
      #expect(
        error?.description.hasPrefix("bomb.npz: entry arr_0.npy: expected a size that ") == true
          && error?.found == "\(claim) bytes", "\(error?.description ?? "")")
    }
    // A size that deflate could hold, but the data do not.
    var longer = good
    let size = Int(good[record + 24]) | Int(good[record + 25]) << 8
    longer.replaceSubrange(record + 24..<record + 28, with: little(size + 1, 4))
    longer.replaceSubrange(localSize..<localSize + 8, with: little(size + 1, 8))
    let error = #expect(throws: DiTError.self) { try NPZFile(bytes: longer, path: "l").array("arr_0") }
    #expect(error?.expected == "deflated data of \(size + 1) bytes")
  }

  @Test("Encrypted entries, other methods and wrong checksums are refused by name")
  func entries() throws {
    let good = try archive([("x", NPYArray(shape: [4], bytes: [1, 2, 3, 4]))])
    let record = try #require(good.indices.first { good[$0...].starts(with: [0x50, 0x4B, 1, 2]) })
    func message(_ changes: [(Int, Int, [UInt8])]) -> String? {
      var bad = good
      for (local, central, bytes) in changes {
        bad.replaceSubrange(local..<local + bytes.count, with: bytes)
        bad.replaceSubrange(record + central..<record + central + bytes.count, with: bytes)
      }
      return #expect(throws: DiTError.self) { try NPZFile(bytes: bad, path: "b").array("x") }?.description
    }
    #expect(message([(6, 8, [1])]) == "b: entry x.npy: expected a stored or deflated entry, found encrypted")
    #expect(
      message([(8, 10, [12])]) == "b: entry x.npy: expected a stored or deflated entry, found compressed (method 12)")
    #expect(message([(8, 10, [8])])?.hasPrefix("b: entry x.npy: expected deflated data of 132 bytes") == true)
    #expect(
      message([(14, 16, [0, 0, 0, 0])])?.hasPrefix("b: entry x.npy: expected the checksum 0x0, found 0x") == true)
    var name = good
    let second = try archive([("x", NPYArray(shape: [1], bytes: [1])), ("y", NPYArray(shape: [1], bytes: [1]))])
    name = second
    for place in second.indices where second[place...].starts(with: Array("y.npy".utf8)) {
      name[place] = UInt8(ascii: "x")
    }
    let twice = #expect(throws: DiTError.self) { try NPZFile(bytes: name, path: "b") }
    #expect(twice?.description == "b: entry x.npy: expected each name once, found it again")
  }

  @Test("Files that are not archives are refused in one line")
  func otherFiles() throws {
    #expect(throws: DiTError(file: "/none.npz", .missing)) { try NPZFile(contentsOf: "/none.npz") }
    for (bytes, message) in [
      ([], "a: ZIP archive: expected at least the 22 bytes of its end record, found 0"),
      (
        [UInt8](repeating: 0x50, count: 100),
        "a: ZIP archive: expected its end record, found none: the file is cut off, or goes on"
      ),
    ] as [([UInt8], String)] {
      let error = #expect(throws: DiTError.self) { try NPZFile(bytes: bytes, path: "a") }
      #expect(error?.description == message)
    }
  }
}

/// A ZIP with one stored entry, read by the 64-bit records from its end, as a reader of large archives must.
private struct StoredEntry {
  let name: String
  let data: [UInt8]

  init(_ file: [UInt8]) throws {
    func number(_ offset: Int, _ size: Int) -> Int {
      (0..<size).reduce(0) { $0 | Int(file[offset + $1]) << (8 * $1) }
    }
    let old = file.count - 22
    let locator = old - 20
    try #require(number(old, 4) == 0x0605_4B50 && number(locator, 4) == 0x0706_4B50)
    let end = number(locator + 8, 8)
    try #require(number(end, 4) == 0x0606_4B50 && end + 56 == locator)
    try #require(number(end + 24, 8) == 1 && number(end + 32, 8) == 1, "one entry")
    let (directorySize, directory) = (number(end + 40, 8), number(end + 48, 8))
    try #require(directory + directorySize == end && number(directory, 4) == 0x0201_4B50)
    let nameLength = number(directory + 28, 2)
    let extra = directory + 46 + nameLength
    try #require(number(extra, 2) == 1 && number(extra + 2, 2) == 24)
    let (size, local) = (number(extra + 4, 8), number(extra + 20, 8))
    try #require(number(extra + 12, 8) == size, "stored")
    try #require(number(local, 4) == 0x0403_4B50 && number(local + 8, 2) == 0 && number(local + 26, 2) == nameLength)
    let start = local + 30 + nameLength + number(local + 28, 2)
    try #require(start + size == directory)
    name = String(decoding: file[local + 30..<local + 30 + nameLength], as: UTF8.self)
    data = Array(file[start..<start + size])
    try #require(number(directory + 16, 4) == Self.checksum(data) && number(local + 14, 4) == Self.checksum(data))
  }

  /// CRC-32 by long division.
  private static func checksum(_ data: [UInt8]) -> Int {
    var remainder: UInt32 = .max
    for byte in data {
      remainder ^= UInt32(byte)
      for _ in 0..<8 { remainder = remainder & 1 == 1 ? remainder >> 1 ^ 0xEDB8_8320 : remainder >> 1 }
    }
    return Int(~remainder)
  }
}
