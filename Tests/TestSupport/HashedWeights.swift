import DiTFiles
import DiTTensor

/// `hashed` of Scripts/fixtures/features.py: numbers in [0, 1) that depend on a name alone.
public func hashed(_ name: String, _ count: Int) -> [Double] {
  let seed = name.utf8.reduce(UInt32(2_166_136_261)) { ($0 ^ UInt32($1)) &* 16_777_619 }
  return (0..<count).map { index in
    var x = UInt32(truncatingIfNeeded: index) &* 0x9E37_79B9 &+ seed
    x = (x ^ x >> 16) &* 0x85EB_CA6B
    x = (x ^ x >> 13) &* 0xC2B2_AE35
    return Double(x ^ x >> 16) * 0x1p-32
  }
}

/// `weights` of Scripts/fixtures/features.py: a network of convolutions whose tensors are made when they are asked for.
public struct HashedWeights: TensorStore {
  public let path: String
  public var keys: [StateDict.Key]
  /// In place of the made ones.
  public var replaced: [String: [Float]] = [:]

  /// The names and shapes of `Tests/Fixtures/features/NAME.json`.
  public init(_ name: String) throws {
    path = Fixture.path("\(name).json", folder: "features")
    let json = try JSONValue(contentsOf: path)
    guard case .object(let members) = json else { preconditionFailure("\(path) is no object") }
    keys = members.map { member in
      guard case .array(let extents) = member.value else { preconditionFailure("\(member.key) has no shape") }
      return StateDict.Key(
        member.key, extents.map { if case .integer(let extent) = $0 { extent } else { 0 } })
    }
  }

  public func shape(of name: String) -> [Int]? { keys.first { $0.name == name }?.shape }

  public func slice(_ name: String) throws -> FloatSlice {
    if let values = replaced[name] { return FloatSlice(values) }
    guard let shape = shape(of: name) else { preconditionFailure("no tensor \(name)") }
    return FloatSlice(values(name, shape))
  }

  private func values(_ name: String, _ shape: [Int]) -> [Float] {
    let numbers = hashed(name, shape.reduce(1, *))
    if shape.count > 1 {
      let bound = (6 / Double(shape.dropFirst().reduce(1, *))).squareRoot()
      return numbers.map { Float((2 * $0 - 1) * bound) }
    }
    let isAroundOne = name.hasSuffix("running_var") || name.hasSuffix("weight")
    return numbers.map { Float(isAroundOne ? 0.5 + $0 : 0.4 * $0 - 0.2) }
  }
}
