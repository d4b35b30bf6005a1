import DiTTensor

// PNG into memory and files. What is written depends on nothing but the image and the text: no time, no path.

extension Image {
  /// The image as an 8-bit PNG, with text entries.
  public func pngData(text: [(key: String, value: String)] = []) throws(DiTError) -> [UInt8] {
    var chunks: [UInt8] = []
    for (key, value) in text { chunks += try PNGText(key: key, value: value).chunk() }
    return try PNGCodec.encode(self, chunks: chunks)
  }

  /// Writes the image as an 8-bit PNG, with text entries such as the seed it was made with.
  ///
  /// The file appears whole or not at all: it is written beside its place, flushed, then renamed.
  public func writePNG(to path: String, text: [(key: String, value: String)] = []) throws(DiTError) {
    do {
      try ImageFile.write(pngData(text: text), to: path)
    } catch {
      throw error.at(path)
    }
  }
}
