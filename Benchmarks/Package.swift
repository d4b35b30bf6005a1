// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "Benchmarks",
  platforms: [.macOS(.v26)],
  dependencies: [
    .package(name: "DiffusionTransformers", path: ".."),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
  ],
  targets: [
    .target(name: "CPeak"),
    // The tests' own counter, through a link.
    .target(name: "CBenchAllocations", path: "Sources/CAllocationCounter"),
    // The tests' list of kernels, which says what their work is.
    .target(
      name: "BenchKernelCases",
      dependencies: [.product(name: "DiTEngine", package: "DiffusionTransformers")],
      path: "Sources/TestSupport", swiftSettings: [.strictMemorySafety()]),
    .executableTarget(
      name: "dit-bench",
      dependencies: [
        "CPeak", "CBenchAllocations", "BenchKernelCases",
        .product(name: "DiTEngine", package: "DiffusionTransformers"),
        .product(name: "DiTPictures", package: "DiffusionTransformers"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: [.strictMemorySafety()]),
  ]
)
