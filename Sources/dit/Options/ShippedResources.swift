import DiTEngine
import DiTFiles
import Foundation

/// What ships with the tool: models, and the data of some, in a folder that the build puts beside the executable.
enum ShippedResources {
  /// The models that `--model` knows by name.
  private enum Model: String, CaseIterable {
    case digits, fashion

    func directory() throws(Failure) -> String { try path("\(rawValue)-model", isDirectory: true) }
  }

  /// Where the model is that the command line names: a model that ships with the tool, unless a file or folder has its name.
  ///
  /// - Parameter name: nil is the digits model.
  static func model(_ name: String?) throws(Failure) -> String {
    guard let name else { return try Model.digits.directory() }
    guard !FileStatus.exists(name) else { return name }
    if let shipped = Model(rawValue: name) { return try shipped.directory() }
    // One word is meant as a name.
    guard !name.contains(where: { "/.".contains($0) }), ModelConfiguration(published: name) == nil else { return name }
    let names = Model.allCases.map(\.rawValue).joined(separator: ", ")
    throw Failure(.input, "\(FileName.shown(name)): no such file, nor a model that ships with the tool (\(names))")
  }

  /// The data sets that `--data` knows by name: two ship with the tool, Fashion-MNIST is a package of Debian's.
  enum DataSet: String {
    case digits, emoji, fashion

    /// What `--data` or a set's name means; nil for a file or folder. A file or folder named fashion comes before the data set.
    static func named(_ name: String) -> DataSet? {
      guard let set = DataSet(rawValue: name), set != .fashion || !FileManager.default.fileExists(atPath: name) else {
        return nil
      }
      return set
    }

    /// Where Debian's dataset-fashion-mnist puts it.
    private static let fashionFolder = "/usr/share/datasets/fashion-mnist"

    /// Its safetensors file, or the folder of its files in IDX.
    func images() throws(Failure) -> String {
      guard self == .fashion else { return try path("\(rawValue).safetensors", isDirectory: false) }
      guard FileManager.default.fileExists(atPath: Self.fashionFolder) else {
        throw Failure(
          .input,
          "\(Self.fashionFolder): expected Fashion-MNIST, found none: Debian's package dataset-fashion-mnist has it, and "
            + "Scripts/fashion installs that; elsewhere name the folder of its files (Scripts/fashion RUN FOLDER)")
      }
      return Self.fashionFolder
    }

    /// The default configuration of `dit train --data NAME`; for digits and fashion, how the shipped model was trained.
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
