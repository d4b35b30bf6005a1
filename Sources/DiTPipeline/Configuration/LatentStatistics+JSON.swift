import DiTAutoencoder
import DiTFiles
import DiTTensor

extension LatentStatistics {
  /// `{"mean": […], "std": […]}`, or the name of a file with tensors `mean` and `std` of one number per channel, seen from the
  /// file that names it: LightningDiT's `latents_stats.pt`, or a safetensors file. Nil where the key is left out or null.
  ///
  /// - Throws: ``ConfigurationFileError`` naming the key, also for a file that cannot be read.
  init?(reading reader: inout JSONObjectReader, _ key: String) throws(ConfigurationFileError) {
    reader.remove(key, if: .null)
    switch reader.peek(key) {
    case nil: return nil
    case .string?:
      guard let name = try reader.string(key) else { return nil }
      let path = Paths.resolve(name, in: Paths.parent(of: reader.file))
      do {
        try self.init(contentsOf: path)
      } catch {
        throw reader.failure(key, expected: "a file with tensors mean and std", found: "\(error)")
      }
    default:
      guard var section = try reader.object(key) else { return nil }
      guard let mean = try section.numbers("mean"), let std = try section.numbers("std") else {
        throw reader.failure(key, expected: "mean and std, a list of numbers each", found: "one of them at most")
      }
      try section.finish()
      self.init(mean: mean, std: std)
    }
    guard mean.count == std.count, !mean.isEmpty else {
      throw reader.failure(
        key, expected: "as many numbers of mean as of std", found: "\(mean.count) and \(std.count)")
    }
    for value in mean where !value.isFinite || abs(value) > 1e30 {
      throw reader.failure("\(key).mean", expected: "numbers from -1e30 to 1e30", found: "\(value)")
    }
    for value in std where !(1e-30...1e30).contains(value) {
      throw reader.failure("\(key).std", expected: "numbers above 0, from 1e-30 to 1e30", found: "\(value)")
    }
  }

  /// The tensors `mean` and `std` of a file.
  private init(contentsOf path: String) throws {
    let store = try StateDictFile(contentsOf: path, tree: .whole).store
    func numbers(_ name: String) throws -> [Double] { try store.slice(name).array.map(Double.init) }
    self.init(mean: try numbers("mean"), std: try numbers("std"))
  }

  var json: JSONValue {
    .object([JSONMember("mean", .array(mean.map { .real($0) })), JSONMember("std", .array(std.map { .real($0) }))])
  }
}
