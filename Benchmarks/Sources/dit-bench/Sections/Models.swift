import DiTEngine

/// A network to time.
struct Model {
  let name: String
  let configuration: DiTConfiguration

  /// A published network at a resolution.
  ///
  /// - Parameters:
  ///   - size: S, B, L or XL; patches are 2×2.
  ///   - inputSize: cells per side, an eighth of the image's pixels.
  init(_ size: String, inputSize: Int = 32) {
    guard var configuration = DiTConfiguration.published("DiT-\(size)/2") else {
      preconditionFailure("no published network DiT-\(size)/2")
    }
    (configuration.inputHeight, configuration.inputWidth) = (inputSize, inputSize)
    name = "DiT-\(size)/2"
    self.configuration = configuration
  }

  private init(name: String, configuration: DiTConfiguration) {
    self.name = name
    self.configuration = configuration
  }

  /// The network that ships with the tool: 8×8 pixels.
  static let digits = Model(
    name: "digits",
    configuration: DiTConfiguration(
      inputHeight: 8, inputWidth: 8, patchSize: 2, inChannels: 1, hiddenSize: 128, depth: 6, numHeads: 4,
      numClasses: 10))

  /// Pixels per side, as the autoencoder counts.
  var resolution: Int { 8 * configuration.inputHeight }
}
