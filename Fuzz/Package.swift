// swift-tools-version: 6.2
import PackageDescription

// Scripts/fuzz builds this package with libFuzzer's instrumentation. The engine's sources come in through links, so
// that they are instrumented too, and so that nothing but what is fuzzed need be built.
let safe: [SwiftSetting] = [.strictMemorySafety()]

let package = Package(
  name: "Fuzz",
  platforms: [.macOS(.v26)],
  targets: [
    .target(name: "DiTTensor", swiftSettings: safe + [.enableExperimentalFeature("Lifetimes")]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib"),
    .target(name: "DiTFiles", dependencies: ["CZlib", "DiTTensor"], swiftSettings: safe),
    .systemLibrary(name: "CPNG", pkgConfig: "libpng"),
    .target(name: "CDiTPNG", dependencies: ["CPNG"]),
    .systemLibrary(name: "CJPEG", pkgConfig: "libjpeg"),
    .target(name: "CDiTJPEG", dependencies: ["CJPEG"]),
    .systemLibrary(name: "CWebP", pkgConfig: "libwebpdemux"),
    .target(name: "CDiTWebP", dependencies: ["CWebP"]),
    .systemLibrary(name: "CFreeType", pkgConfig: "freetype2"),
    .systemLibrary(name: "CFontconfig", pkgConfig: "fontconfig"),
    .target(name: "CDiTFont", dependencies: ["CFreeType", "CFontconfig"]),
    .target(
      name: "DiTImaging", dependencies: ["CDiTPNG", "CDiTJPEG", "CDiTWebP", "CDiTFont", "DiTFiles", "DiTTensor"],
      swiftSettings: safe),
    .target(name: "DiTNumpy", dependencies: ["DiTFiles", "DiTTensor"], swiftSettings: safe),
    .systemLibrary(name: "CBLAS", pkgConfig: "openblas"),
    .target(name: "CDiTKernels"),
    .target(name: "DiTKernels", dependencies: ["CBLAS", "CDiTKernels", "DiTTensor"], swiftSettings: safe),
    .target(name: "DiTModel", dependencies: ["DiTKernels", "DiTTensor"], swiftSettings: safe),
    .target(name: "DiTLinearAlgebra", dependencies: ["DiTKernels"], swiftSettings: safe),
    .target(name: "DiTDiffusion", dependencies: ["DiTKernels", "DiTLinearAlgebra", "DiTTensor"], swiftSettings: safe),
    .target(
      name: "DiTAutoencoder", dependencies: ["DiTKernels", "DiTTensor"], swiftSettings: safe),
    .target(
      name: "DiTDiffusers", dependencies: ["DiTKernels", "DiTTensor", "DiTModel", "DiTDiffusion", "DiTFiles"],
      swiftSettings: safe),
    .target(
      name: "DiTPipeline",
      dependencies: [
        "DiTKernels", "DiTTensor", "DiTModel", "DiTDiffusion", "DiTFiles", "DiTAutoencoder", "DiTDiffusers",
      ],
      swiftSettings: safe),
    .executableTarget(name: "fuzz-safetensors", dependencies: ["DiTFiles", "DiTTensor"], swiftSettings: safe),
    .executableTarget(name: "fuzz-torch", dependencies: ["DiTFiles", "DiTTensor"], swiftSettings: safe),
    .executableTarget(
      name: "fuzz-config", dependencies: ["DiTAutoencoder", "DiTDiffusers", "DiTPipeline", "DiTTensor"],
      swiftSettings: safe),
    .executableTarget(name: "fuzz-npz", dependencies: ["DiTNumpy", "DiTTensor"], swiftSettings: safe),
    .executableTarget(name: "fuzz-archives", dependencies: ["DiTFiles", "DiTTensor"], swiftSettings: safe),
    .executableTarget(name: "fuzz-images", dependencies: ["DiTImaging", "DiTTensor"], swiftSettings: safe),
  ]
)
