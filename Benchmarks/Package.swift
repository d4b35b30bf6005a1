// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "Benchmarks",
  platforms: [.macOS(.v26)],
  dependencies: [.package(name: "DiffusionTransformers", path: "..")],
  targets: [
    .target(name: "CPeak"),
    .executableTarget(
      name: "dit-bench",
      dependencies: ["CPeak", .product(name: "DiffusionTransformers", package: "DiffusionTransformers")],
      swiftSettings: [.strictMemorySafety()]),
  ]
)
