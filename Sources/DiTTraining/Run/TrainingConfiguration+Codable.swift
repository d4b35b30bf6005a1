import DiTFiles

extension TrainingConfiguration: Codable {
  /// The keys of a training configuration's `training` section; those left out have their defaults.
  ///
  /// - Throws: `DiTError` with the key's path, for what ``init(reading:defaults:)`` refuses.
  public init(from decoder: any Decoder) throws { try self.init(reading: JSONObjectReader(from: decoder)) }

  public func encode(to encoder: any Encoder) throws { try json.encode(to: encoder) }
}
