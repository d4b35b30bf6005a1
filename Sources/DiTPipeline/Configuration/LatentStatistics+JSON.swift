import DiTAutoencoder
import DiTFiles
import DiTModel
import DiTTensor

extension LatentStatistics {
  /// `{"mean": […], "std": […]}`, or the name of a file with tensors `mean` and `std` of one number per channel, seen from the
  /// file that names it: LightningDiT's `latents_stats.pt`, or a safetensors file. Nil where the key is left out or null.
  ///
  /// - Throws: `DiTError` naming the key, also for a file that cannot be read.
  init?(reading reader: inout JSONObjectReader, _ key: String) throws(DiTError) {
    reader.remove(key, if: .null)
    switch reader.peek(key) {
    case nil: return nil
    case .string?:
      guard !reader.file.isEmpty else {
        throw reader.failure(key, expected: "mean and std, as JSON in memory has no folder", found: "a file's name")
      }
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
    if let (part, expected, found) = problem {
      throw reader.failure(part.isEmpty ? key : "\(key).\(part)", expected: expected, found: found)
    }
  }

  /// What does not work about the numbers, or nil: of `mean`, of `std`, or of both.
  var problem: (part: String, expected: String, found: String)? {
    guard mean.count == std.count, !mean.isEmpty else {
      return ("", "as many numbers of mean as of std", "\(mean.count) and \(std.count)")
    }
    for value in mean where !value.isFinite || abs(value) > 1e30 {
      return ("mean", "numbers from -1e30 to 1e30", "\(value)")
    }
    for value in std where !(1e-30...1e30).contains(value) {
      return ("std", "numbers above 0, from 1e-30 to 1e30", "\(value)")
    }
    return nil
  }

  /// The numbers of a tensor of a file, one per channel.
  ///
  /// - Throws: `DiTError` for more of them than a network has channels; as reading a tensor does.
  static func numbers(_ name: String, of store: some TensorStore) throws -> [Double] {
    let most = 1 << 16
    let shape = store.shape(of: name) ?? []
    guard shape.allSatisfy({ $0 <= most }), shape.reduce(1, { min(most + 1, $0 * $1) }) <= most else {
      throw DiTError(
        file: store.path, .tensor(name), expected: "a number per channel, at most \(most)",
        found: "shape \(shape)")
    }
    return try Weights.finite(name, of: store).array.map(Double.init)
  }

  /// The tensors `mean` and `std` of a file.
  private init(contentsOf path: String) throws {
    let store = try StateDictFile(contentsOf: path, tree: .whole).store
    self.init(mean: try Self.numbers("mean", of: store), std: try Self.numbers("std", of: store))
  }

  var json: JSONValue {
    .object([JSONMember("mean", .array(mean.map { .real($0) })), JSONMember("std", .array(std.map { .real($0) }))])
  }
}
