extension DiTConfiguration {
  /// One of the twelve published configurations, `DiT-S/2` … `DiT-XL/8`, for 256² images (32×32×4 latents).
  public static func published(_ name: String) -> DiTConfiguration? {
    publishedNames.contains(name) ? publishedSizes(name) : nil
  }

  /// The names ``published(_:)`` knows.
  public static let publishedNames = ["S", "B", "L", "XL"].flatMap { size in
    [2, 4, 8].map { "DiT-\(size)/\($0)" }
  }

  private static func publishedSizes(_ name: String) -> DiTConfiguration? {
    let parts = name.dropFirst(4).split(separator: "/")
    guard parts.count == 2, let patch = Int(parts[1]) else { return nil }
    var configuration = DiTConfiguration(patchSize: patch)
    switch parts[0] {
    case "S": break
    case "B": (configuration.hiddenSize, configuration.numHeads) = (768, 12)
    case "L": (configuration.depth, configuration.hiddenSize, configuration.numHeads) = (24, 1024, 16)
    case "XL": (configuration.depth, configuration.hiddenSize, configuration.numHeads) = (28, 1152, 16)
    default: return nil
    }
    return configuration
  }

  /// The networks over 256×256×3 pixels: D = 1024 with 16 heads, `DiT-Base/P` with 12 blocks and `DiT-Large/P` with 36,
  /// patches of P = 8, 16 or 32 pixels.
  public static func pixelSpace(_ name: String) -> DiTConfiguration? {
    guard pixelSpaceNames.contains(name), let slash = name.lastIndex(of: "/"),
      let patch = Int(name[name.index(after: slash)...])
    else { return nil }
    return DiTConfiguration(
      inputHeight: 256, inputWidth: 256, patchSize: patch, inChannels: 3, hiddenSize: 1024,
      depth: name.hasPrefix("DiT-Base") ? 12 : 36, numHeads: 16)
  }

  /// The names ``pixelSpace(_:)`` knows.
  public static let pixelSpaceNames = ["Base", "Large"].flatMap { size in [8, 16, 32].map { "DiT-\(size)/\($0)" } }

  /// A configuration by its name: published, or of pixels.
  public static func named(_ name: String) -> DiTConfiguration? { published(name) ?? pixelSpace(name) }
}
