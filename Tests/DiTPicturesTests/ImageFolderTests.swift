import DiTImaging
import DiTPictures
import DiTTensor
import DiTTraining
import Foundation
import Testing

/// What is a class, what is a picture, and in which order they come.
@Suite("Classes, files and their order in a folder of pictures") struct ImageFolderTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// Pictures in files of these names; the k-th is the k-th noise.
  private func fill(_ names: [String]) throws {
    for (seed, name) in names.enumerated() { try scratch.write(noise(seed), to: name) }
  }

  /// Which noise each sample is.
  private func order(_ names: [String], cacheBytes: Int = 1 << 20) throws -> (order: [Int?], labels: [Int]?) {
    try fill(names)
    let data = try ImageFolder(scratch.path).dataset(
      channels: 1, height: 4, width: 6, options: PictureOptions(cacheBytes: cacheBytes)
    ).data
    let order = try (0..<data.count).map { index in
      let sample = try data.sample(index)
      return names.indices.first { floats(planes(noise($0))) == sample }
    }
    return (order, data.labels)
  }

  @Test("Folders are classes, and classes and files come in the order of their names' bytes", arguments: [0, 1 << 20])
  func classesAndFilesInByteOrder(_ cacheBytes: Int) throws {
    let names = [
      "b/2.png", "b/10.png", "b/deep/er/1.JPEG", "Z/x.PNG", "a/é.png", "a/z.png", "10/a.jpg", "2/a.png",
      "b/.hidden.png",
      ".hidden/a.png",
    ]
    let (order, labels) = try order(names, cacheBytes: cacheBytes)
    let folder = try ImageFolder(scratch.path)
    #expect(folder.classNames == ["10", "2", "Z", "a", "b"] && folder.count == 8 && folder.labels == labels)
    #expect(order == [6, 7, 3, 5, 4, 1, 0, 2] && labels == [0, 1, 2, 3, 3, 4, 4, 4])
    #expect(folder.notes.isEmpty)
  }

  @Test("A folder without subfolders of pictures has no classes")
  func aFolderWithoutFoldersHasNoClasses() throws {
    let (order, labels) = try order(["b.png", "a.png", "c.jpg"])
    #expect(order == [1, 0, 2] && labels == nil)
    try scratch.write([1], to: "raw/notes.txt")
    let folder = try ImageFolder(scratch.path)
    #expect(folder.classNames == nil && folder.labels == nil && folder.count == 3)
    #expect(folder.notes.count == 2 && folder.notes[0].hasSuffix("1 folder without pictures passed over: raw"))
  }

  @Test("Files without a class and files of other endings are passed over and noted by name")
  func whatIsPassedOverIsNamed() throws {
    try fill(["cat/a.png", "dog/b.png", "loose.png"])
    for name in ["cat/a.gif", "cat/b.txt", "dog/more/README", "dog/x.bmp", "dog/y.bmp", "dog/z.bmp", "top.csv"] {
      try scratch.write([1], to: name)
    }
    let folder = try ImageFolder(scratch.path)
    #expect(folder.count == 2 && folder.classNames == ["cat", "dog"])
    let root = scratch.path
    #expect(
      folder.notes == [
        "\(root): 1 picture beside the class folders passed over, having no class: loose.png",
        "\(root): 7 files of other endings passed over: top.csv, cat/a.gif, cat/b.txt, dog/more/README, dog/x.bmp "
          + "and 2 more",
      ])
  }

  @Test("Class folders whose numeric names differ from their labels are noted")
  func numbersThatAreNotTheirLabelsAreNoted() throws {
    try fill(["1/a.png", "0/a.png"])
    #expect(try ImageFolder(scratch.path).notes.isEmpty)
    try fill((2...10).map { "\($0)/a.png" })
    #expect(try ImageFolder(scratch.path).notes.map { $0.hasSuffix("label 2 is the folder 10") } == [true])
  }

  @Test("A folder without pictures, a class without pictures, a file and a missing path are refused")
  func foldersWithoutData() throws {
    func message() -> String { description(#expect(throws: DiTError.self) { try ImageFolder(scratch.path) }) }
    #expect(message().hasSuffix("found none"))
    try scratch.write([1], to: "cat/a.txt")
    #expect(message().hasSuffix("found none"))
    try fill(["dog/a.png"])
    #expect(message() == "\(scratch.path)/cat: expected PNG, JPEG or WebP files of this class, found none")
    let file = #expect(throws: DiTError.self) { try ImageFolder(scratch("dog/a.png")) }
    #expect(description(file).hasSuffix("expected a folder, found a file"))
    let nothing = #expect(throws: DiTError.self) { try ImageFolder(scratch("nowhere")) }
    #expect(description(nothing).hasSuffix("expected a folder, found nothing"))
  }

  @Test("Symbolic links are followed, and a loop of links is refused after 32 folders")
  func linksAreFollowedButNotForEver() throws {
    try fill(["cat/a.png"])
    try FileManager.default.createSymbolicLink(atPath: scratch("dog"), withDestinationPath: scratch("cat"))
    #expect(try ImageFolder(scratch.path).classNames == ["cat", "dog"])
    try FileManager.default.createSymbolicLink(atPath: scratch("cat/loop"), withDestinationPath: scratch("cat"))
    let error = #expect(throws: DiTError.self) { try ImageFolder(scratch.path) }
    #expect(description(error).hasSuffix("expected at most 32 folders in each other"))
  }

  /// Gray becomes RGB and the other way round; larger pictures are resized and cut as `Image` does it.
  @Test(
    "Pictures are converted to the wanted channels and fitted to the wanted size",
    arguments: [(1, 0), (3, 0), (1, 1 << 20), (3, 1 << 20)])
  func picturesAreConvertedAndFitted(_ channels: Int, _ cacheBytes: Int) throws {
    let images = [
      noise(1, width: 37, height: 11), noise(2, width: 5, height: 30, channels: 3), noise(3, width: 6, height: 4),
      noise(4, width: 6, height: 4, channels: 3),
    ]
    for (index, image) in images.enumerated() { try scratch.write(image, to: "\(index).png") }
    let data = try ImageFolder(scratch.path).dataset(
      channels: channels, height: 4, width: 6, options: PictureOptions(cacheBytes: cacheBytes)
    ).data
    #expect(data.isStreamed == (cacheBytes == 0) && data.channels == channels && data.height == 4 && data.width == 6)
    for (index, image) in images.enumerated() {
      let expected = image.fitted(width: 6, height: 4).converted(toChannels: channels)
      #expect(try data.sample(index) == floats(planes(expected)), "\(index)")
    }
  }
}
