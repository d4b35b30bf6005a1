// swift-tools-version: 6.2
import PackageDescription

/// A program that uses the library, and the pictures beside it.
func example(_ name: String) -> Target {
  .executableTarget(
    name: name,
    dependencies: [
      .product(name: "DiffusionTransformers", package: "DiffusionTransformers"),
      .product(name: "DiTEngine", package: "DiffusionTransformers"),
      .product(name: "DiTImaging", package: "DiffusionTransformers"),
      .product(name: "DiTPictures", package: "DiffusionTransformers"),
    ])
}

let package = Package(
  name: "Examples",
  platforms: [.macOS(.v26)],
  dependencies: [.package(name: "DiffusionTransformers", path: "..")],
  targets: [
    example("complete-digits"), example("edit-photo"), example("many-requests"), example("own-embeddings"),
    example("progress-bar"), example("train-with-events"),
    // The tutorials' last steps: their main.swift are links to the files that the tutorials show.
    example("tutorial-sample"), example("tutorial-train"), example("tutorial-serve"),
  ])
