// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "Examples",
  platforms: [.macOS(.v26)],
  dependencies: [.package(name: "DiffusionTransformers", path: "..")],
  targets: [
    .executableTarget(
      name: "complete-digits",
      dependencies: [
        .product(name: "DiffusionTransformers", package: "DiffusionTransformers"),
        .product(name: "DiTImaging", package: "DiffusionTransformers"),
      ])
  ])
