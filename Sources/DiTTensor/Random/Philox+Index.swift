extension Philox {
  /// A uniform draw from 0 ..< bound: the high word of 64 random bits times the bound, off by less than bound/2⁶⁴.
  package mutating func index(below bound: Int) -> Int {
    Int(next().multipliedFullWidth(by: UInt64(bound)).high)
  }
}
