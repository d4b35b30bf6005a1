// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target is compiled in Swift 6 mode with strict memory safety: code that touches raw memory says
/// `unsafe`, and only a handful of files do.
let safe: [SwiftSetting] = [.strictMemorySafety()]

let package = Package(
  name: "DiffusionTransformers",
  platforms: [.macOS(.v26)],
  products: [
    .library(name: "DiffusionTransformers", targets: ["DiffusionTransformers"]),
    .library(name: "DiTEngine", targets: ["DiTEngine"]),
    .library(name: "DiTImaging", targets: ["DiTImaging"]),
    .library(name: "DiTPictures", targets: ["DiTPictures"]),
    .library(name: "DiTNumpy", targets: ["DiTNumpy"]),
    .executable(name: "dit", targets: ["dit"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0", traits: []),
  ],
  targets: [
    // Engine
    .systemLibrary(
      name: "CBLAS", pkgConfig: "openblas",
      providers: [.apt(["libopenblas-dev", "liblapacke-dev"]), .brew(["openblas"])]),
    .target(name: "CDiTKernels"),
    .target(name: "DiTKernels", dependencies: ["CBLAS", "CDiTKernels", "DiTTensor"], swiftSettings: safe),
    .target(name: "DiTTensor", swiftSettings: safe + [.enableExperimentalFeature("Lifetimes")]),
    .target(name: "DiTModel", dependencies: ["DiTKernels", "DiTTensor"], swiftSettings: safe),
    .target(name: "DiTLinearAlgebra", dependencies: ["DiTKernels"], swiftSettings: safe),
    .target(name: "DiTDiffusion", dependencies: ["DiTKernels", "DiTLinearAlgebra", "DiTTensor"], swiftSettings: safe),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"]), .brew(["zlib"])]),
    .target(name: "DiTFiles", dependencies: ["CZlib", "DiTTensor"], swiftSettings: safe),
    .target(
      name: "DiTAutoencoder", dependencies: ["DiTKernels", "DiTTensor"], swiftSettings: safe),

    // Where the siblings meet
    .target(
      name: "DiTDiffusers", dependencies: ["DiTKernels", "DiTTensor", "DiTModel", "DiTDiffusion", "DiTFiles"],
      swiftSettings: safe),
    .target(
      name: "DiTPipeline",
      dependencies: [
        "DiTKernels", "DiTTensor", "DiTModel", "DiTDiffusion", "DiTFiles", "DiTAutoencoder", "DiTDiffusers",
      ],
      swiftSettings: safe),
    .target(name: "CDiTMPI"),
    .target(name: "DiTDistributed", dependencies: ["CDiTMPI", "DiTTensor"], swiftSettings: safe),
    .target(name: "DiTTraining", dependencies: ["DiTPipeline", "DiTDistributed"], swiftSettings: safe),
    .target(
      name: "DiTEvaluation",
      dependencies: ["DiTDistributed", "DiTKernels", "DiTLinearAlgebra", "DiTTensor", "DiTFiles", "DiTFeatures"],
      swiftSettings: safe),
    .target(
      name: "DiffusionTransformers", dependencies: ["DiTPipeline", "DiTTraining", "DiTEvaluation"], swiftSettings: safe),

    .target(
      name: "DiTEngine",
      dependencies: ["DiTPipeline", "DiTTraining", "DiTEvaluation", "DiTFeatures", "DiTDistributed"],
      swiftSettings: safe),

    // Pictures and the command line
    .systemLibrary(
      name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"]), .brew(["libpng"])]),
    .target(name: "CDiTPNG", dependencies: ["CPNG"]),
    .systemLibrary(
      name: "CJPEG", pkgConfig: "libjpeg", providers: [.apt(["libjpeg62-turbo-dev"]), .brew(["jpeg-turbo"])]),
    .target(name: "CDiTJPEG", dependencies: ["CJPEG"]),
    .systemLibrary(
      name: "CWebP", pkgConfig: "libwebpdemux", providers: [.apt(["libwebp-dev"]), .brew(["webp"])]),
    .target(name: "CDiTWebP", dependencies: ["CWebP"]),
    .systemLibrary(
      name: "CFreeType", pkgConfig: "freetype2", providers: [.apt(["libfreetype-dev"]), .brew(["freetype"])]),
    .systemLibrary(
      name: "CFontconfig", pkgConfig: "fontconfig", providers: [.apt(["libfontconfig-dev"]), .brew(["fontconfig"])]),
    .target(name: "CDiTFont", dependencies: ["CFreeType", "CFontconfig"]),
    .target(name: "DiTNumpy", dependencies: ["DiTFiles", "DiTTensor"], swiftSettings: safe),
    .target(
      name: "DiTImaging", dependencies: ["CDiTPNG", "CDiTJPEG", "CDiTWebP", "CDiTFont", "DiTFiles", "DiTTensor"],
      swiftSettings: safe),
    .target(name: "DiTPictures", dependencies: ["DiTImaging", "DiTTraining", "DiTEvaluation"], swiftSettings: safe),
    .target(name: "DiTFeatures", dependencies: ["DiTKernels", "DiTTensor", "DiTFiles"], swiftSettings: safe),
    .target(
      name: "DiTEvents",
      dependencies: ["DiTFiles", "DiTTensor", .product(name: "SwiftProtobuf", package: "swift-protobuf")],
      exclude: ["Protos"], swiftSettings: safe),
    .executableTarget(
      name: "dit",
      dependencies: [
        "DiTDistributed", "DiTEngine", "DiTPictures", "DiTImaging", "DiTEvents", "DiTNumpy",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      resources: [.copy("Resources")],
      swiftSettings: safe),

    // Tests
    .target(name: "CAllocationCounter", path: "Tests/CAllocationCounter"),
    .target(
      name: "TestSupport", dependencies: ["DiTDistributed", "DiTFiles", "DiTKernels", "DiTTensor"],
      path: "Tests/TestSupport",
      swiftSettings: safe),
    .target(name: "CKernelsTestSupport", dependencies: ["CDiTKernels"], path: "Tests/CKernelsTestSupport"),
    .testTarget(
      name: "DiTKernelsTests",
      dependencies: ["DiTKernels", "CDiTKernels", "CBLAS", "CKernelsTestSupport", "DiTTensor", "TestSupport"],
      swiftSettings: safe),
    .testTarget(
      name: "DiTLinearAlgebraTests", dependencies: ["DiTLinearAlgebra", "DiTKernels", "TestSupport"],
      swiftSettings: safe),
    .testTarget(name: "DiTTensorTests", dependencies: ["DiTTensor", "DiTFiles", "TestSupport"], swiftSettings: safe),
    .testTarget(
      name: "DiTModelTests",
      dependencies: ["DiTModel", "DiTFiles", "DiTKernels", "DiTTensor", "TestSupport", "CAllocationCounter"],
      swiftSettings: safe),
    .testTarget(
      name: "AddAPartTests",
      dependencies: ["DiTModel", "DiTKernels", "DiTTensor", "DiTFiles", "DiTPipeline", "TestSupport"],
      swiftSettings: safe),
    .testTarget(
      name: "DiTDiffusionTests", dependencies: ["DiTDiffusion", "DiTKernels", "CAllocationCounter", "TestSupport"],
      swiftSettings: safe),
    .testTarget(name: "DiTDiffusersTests", dependencies: ["DiTDiffusers", "TestSupport"], swiftSettings: safe),
    .testTarget(name: "DiTFilesTests", dependencies: ["DiTFiles", "DiTTensor"], swiftSettings: safe),
    .testTarget(
      name: "DiTAutoencoderTests", dependencies: ["DiTAutoencoder", "DiTPipeline", "TestSupport"], swiftSettings: safe),
    .testTarget(name: "DiTFeaturesTests", dependencies: ["DiTFeatures", "TestSupport"], swiftSettings: safe),
    .testTarget(
      name: "DiTEvaluationTests", dependencies: ["DiTEvaluation", "DiTFeatures", "TestSupport"], swiftSettings: safe),
    .testTarget(name: "DiTPipelineTests", dependencies: ["DiTPipeline", "TestSupport"], swiftSettings: safe),
    .testTarget(
      name: "DiTTrainingTests", dependencies: ["DiTTraining", "CAllocationCounter", "TestSupport"], swiftSettings: safe),
    .testTarget(
      name: "DiffusionTransformersTests",
      dependencies: ["DiffusionTransformers", "DiTEngine", "DiTPictures", "DiTImaging"],
      swiftSettings: safe),
    .testTarget(
      name: "DiTDistributedTests", dependencies: ["DiTDistributed", "DiTTensor", "TestSupport"], swiftSettings: safe),
    .testTarget(name: "DiTEventsTests", dependencies: ["DiTEvents"], swiftSettings: safe),
    .testTarget(name: "DiTNumpyTests", dependencies: ["DiTNumpy", "DiTFiles"], swiftSettings: safe),
    .testTarget(name: "DiTImagingTests", dependencies: ["DiTImaging"], swiftSettings: safe),
    .testTarget(
      name: "DiTPicturesTests", dependencies: ["DiTPictures", "DiTImaging", "DiTTraining", "TestSupport"],
      swiftSettings: safe),
    .testTarget(
      name: "DiTCommandTests",
      dependencies: ["dit", "DiTEngine", "DiTImaging", "DiTNumpy", "DiTPictures", "TestSupport"],
      swiftSettings: safe),
  ]
)
