import Foundation

/// What ships with the tool: the digits model and its data, in a folder that the build puts beside the executable.
enum ShippedResources {
  /// The model directory of the digits.
  static func digitsModel() throws(Failure) -> String { try path("digits-model", isDirectory: true) }

  /// The data sets that `--data` knows by name.
  enum DataSet: String {
    case digits, emoji

    /// Its safetensors file.
    func images() throws(Failure) -> String { try path("\(rawValue).safetensors", isDirectory: false) }

    /// The default configuration of `dit train --data NAME`; for the digits, how the shipped model was trained.
    func training() throws(Failure) -> String { try path("\(rawValue)-training.json", isDirectory: false) }
  }

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
