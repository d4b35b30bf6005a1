import DiTDiffusion
import DiTModel

/// A network that the authors of a family publish, with what they sample it with.
public struct PublishedSize: Equatable, Sendable {
  /// Such as `JiT-B/16`.
  public let name: String
  public let family: ModelFamily
  let depth, hiddenSize, numHeads, patch, side: Int
  /// The block before which JiT's in-context tokens join.
  let start: Int
  /// ς.
  let noiseScale: Double
  /// Guidance at evaluation, JiT's scale or pMF's ω.
  let guidance: Double
  /// pMF's [t_min, t_max].
  let interval: ClosedRange<Double>?

  package init(
    name: String, family: ModelFamily, depth: Int, hiddenSize: Int, numHeads: Int, patch: Int, side: Int, start: Int,
    noiseScale: Double, guidance: Double, interval: ClosedRange<Double>?
  ) {
    (self.name, self.family) = (name, family)
    (self.depth, self.hiddenSize, self.numHeads, self.patch, self.side) = (depth, hiddenSize, numHeads, patch, side)
    (self.start, self.noiseScale, self.guidance, self.interval) = (start, noiseScale, guidance, interval)
  }

  /// Every size of SiT and LightningDiT over latents of 256×256 pictures, and of JiT and pMF: pictures of 256×256 with patches
  /// of 16, of 512×512 with patches of 32.
  public static let all: [PublishedSize] = sit + lightning + jit + pmf

  private static let sit = [("S", 12, 384, 6), ("B", 12, 768, 12), ("L", 24, 1024, 16), ("XL", 28, 1152, 16)]
    .flatMap { size in
      [2, 4, 8].map { patch in
        PublishedSize(
          name: "SiT-\(size.0)/\(patch)", family: .sit, depth: size.1, hiddenSize: size.2, numHeads: size.3,
          patch: patch,
          side: 32, start: 0, noiseScale: 1, guidance: 1.5, interval: nil)
      }
    }

  private static let lightning = [
    ("B", 12, 768, 12, [1, 2]), ("L", 24, 1024, 16, [2]), ("XL", 28, 1152, 16, [1, 2]), ("1p0B", 24, 1536, 24, [1, 2]),
    ("1p6B", 28, 1792, 28, [1, 2]),
  ].flatMap { size in
    size.4.map { patch in
      PublishedSize(
        name: "LightningDiT-\(size.0)/\(patch)", family: .lightningdit, depth: size.1, hiddenSize: size.2,
        numHeads: size.3, patch: patch, side: 16, start: 0, noiseScale: 1, guidance: 6.7, interval: 0.125...1)
    }
  }

  /// Guidance as in JiT's README.
  private static let jit = [("B", 12, 768, 12, 4), ("L", 24, 1024, 16, 8), ("H", 32, 1280, 16, 10)].flatMap { size in
    [16, 32].map { patch in
      let guidance = ["B": [16: 3.0, 32: 3.0], "L": [16: 2.4, 32: 2.5], "H": [16: 2.2, 32: 2.3]]
      return PublishedSize(
        name: "JiT-\(size.0)/\(patch)", family: .jit, depth: size.1, hiddenSize: size.2, numHeads: size.3, patch: patch,
        side: 16 * patch, start: size.4, noiseScale: patch == 16 ? 1 : 2, guidance: guidance[size.0]?[patch] ?? 3,
        interval: nil)
    }
  }

  /// ς, ω and the interval as in pMF's evaluation settings; B/16 those of its PyTorch code.
  private static let pmf = [
    ("B", 16, 768, 12, 16, 1.0, 7.5, 0.1...0.8), ("B", 16, 768, 12, 32, 2, 6.5, 0.1...0.7),
    ("L", 32, 1024, 16, 16, 1, 7, 0.2...0.7), ("L", 32, 1024, 16, 32, 4, 7.5, 0.2...0.6),
    ("H", 48, 1280, 16, 16, 2, 7, 0.2...0.6), ("H", 48, 1280, 16, 32, 4, 5.5, 0.1...0.6),
  ].map { size in
    PublishedSize(
      name: "pMF-\(size.0)/\(size.4)", family: .pmf, depth: size.1, hiddenSize: size.2, numHeads: size.3, patch: size.4,
      side: 16 * size.4, start: 0, noiseScale: size.5, guidance: size.6, interval: size.7)
  }

  /// Whether a network of the family has these sizes, which differ in every pair.
  func has(_ network: DiTConfiguration) -> Bool {
    (network.depth, network.hiddenSize, network.patchSize) == (depth, hiddenSize, patch)
  }

  /// The network, as its authors build it.
  var network: DiTConfiguration {
    var network = family.network()
    (network.inputHeight, network.inputWidth, network.patchSize) = (side, side, patch)
    (network.depth, network.hiddenSize, network.numHeads) = (depth, hiddenSize, numHeads)
    if network.patchBottleneck != nil { network.patchBottleneck = hiddenSize > 1024 ? 256 : 128 }
    if family == .sit { network.learnSigma = true }
    if family == .jit { network.inContextStart = start }
    // pMF's hidden layer is a multiple of 8 where the network is wider than 1024.
    if family == .pmf, hiddenSize > 1024 { network.mlpHidden = (8 * hiddenSize / 3 + 7) / 8 * 8 }
    return network
  }

  /// The model without weights.
  var model: ModelConfiguration {
    let network = network
    return ModelConfiguration(
      network: network, diffusion: family.diffusion(variance: .standard(network), noiseScale: noiseScale),
      family: family)
  }
}
