import DiTFiles
import DiTModel
import DiTTensor

// config.json's `attention` block: four words.

extension AttentionConfiguration {
  /// An `attention` section; keys left out are the published network's. Finishes the reader.
  init(reading reader: JSONObjectReader) throws(DiTError) {
    var reader = reader
    self.init()
    temperature = try reader.word("temperature") ?? temperature
    mask = try reader.word("mask") ?? mask
    window = try reader.word("window") ?? window
    distance = try reader.word("distance") ?? distance
    try reader.finish()
  }

  var json: JSONValue {
    .object([
      JSONMember("temperature", .string(temperature.rawValue)), JSONMember("mask", .string(mask.rawValue)),
      JSONMember("window", .string(window.rawValue)), JSONMember("distance", .string(distance.rawValue)),
    ])
  }
}
