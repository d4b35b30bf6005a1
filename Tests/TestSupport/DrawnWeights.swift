/// `drawn` of Scripts/fixtures/parts.py: center + half · uniform, each operation rounded to Float; no weight is 0.
public func drawnWeights(_ name: String, _ shape: [Int], seed: Int) -> [Float] {
  let fanIn = shape.dropFirst().reduce(1, *)
  var (center, half) = (Float(0), Float((3 / Double(fanIn)).squareRoot() * (name.contains("adaLN") ? 0.5 : 1)))
  if name.hasSuffix(".bias") {
    half = 0.2
  } else if shape.count == 1 {
    (center, half) = (1, 0.75)
  } else if ["_tokens", "pos_embed", "posemb", "embedding_table.weight"].contains(where: name.hasSuffix) {
    half = 1.25
  }
  return uniform("\(seed):\(name)", shape.reduce(1, *)).map { center + half * $0 }
}

/// In [−1, 1): the upper 24 bits of SplitMix64, started at the name's FNV-1a.
private func uniform(_ name: String, _ count: Int) -> [Float] {
  let start = name.utf8.reduce(UInt64(0xCBF2_9CE4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  return (1...UInt64(count)).map { i in
    var z = start &+ i &* 0x9E37_79B9_7F4A_7C15
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return Float((z ^ z >> 31) >> 40) * 0x1p-23 - 1
  }
}
