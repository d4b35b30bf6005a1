import DiTModel

extension DiT: CustomStringConvertible {
  /// One line: what goes in and comes out, and how large the network is.
  public var description: String {
    let c = configuration.network
    let classes = c.numClasses == 0 ? "no classes" : "\(c.numClasses) classes"
    return "DiT of \(c.inChannels)×\(c.inputHeight)×\(c.inputWidth), \(classes), \(c.depth) blocks of \(c.hiddenSize), "
      + "\(configuration.family.rawValue), \(network.numerics.precision.rawValue)"
  }
}
