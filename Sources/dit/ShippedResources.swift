import Foundation

/// What ships with the tool: the digits model and its data, in a folder that the build puts beside the executable.
enum ShippedResources {
  /// The model directory of the digits.
  static func digitsModel() throws(Failure) -> String { try path("digits-model", isDirectory: true) }

  /// The data set of the digits.
  static func digits() throws(Failure) -> String { try path("digits.safetensors", isDirectory: false) }

  /// How the digits model was trained: the default configuration of `dit train --data digits`.
  static func digitsTraining() throws(Failure) -> String { try path("digits-training.json", isDirectory: false) }

  /// The path of a resource.
  ///
  /// The folder is looked up by its name: `Bundle.module` would trap where the executable was copied without it.
  private static func path(_ name: String, isDirectory: Bool) throws(Failure) -> String {
    #if os(macOS)
      let bundle = "DiffusionTransformers_dit.bundle"
      let folders = ["\(bundle)/Contents/Resources/Resources", "\(bundle)/Resources"]
    #else
      let bundle = "DiffusionTransformers_dit.resources"
      let folders = ["\(bundle)/Resources"]
    #endif
    let candidates = folders.map {
      Bundle.main.bundleURL.appending(path: "\($0)/\(name)").path(percentEncoded: false)
    }
    var foundDirectory: ObjCBool = false
    for path in candidates where unsafe FileManager.default.fileExists(atPath: path, isDirectory: &foundDirectory) {
      if foundDirectory.boolValue == isDirectory { return path }
    }
    throw Failure(
      .input, "\(candidates[0]): expected \(name), which ships with the tool: keep \(bundle) beside the executable")
  }
}
