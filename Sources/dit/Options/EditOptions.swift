import ArgumentParser
import DiTEngine
import DiTPictures

/// A picture to start from, and what of it is kept.
struct EditOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Image to image: a PNG, JPEG or WebP to start from, fitted to the model's size as training data are. \
      (default: none)
      """, valueName: "file"))
  var image: String?

  @Option(
    help: ArgumentHelp(
      """
      How much of the image is given up, 0 to 1: it is noised so far that the last ⌊steps · strength⌋ steps are taken. 1 begins \
      with noise alone. (default: 0.8, with --mask 1)
      """, valueName: "x"))
  var strength: Double?

  @Option(
    help: ArgumentHelp(
      """
      Inpainting: a picture of the image's size, white where it is painted and black where it is kept, to the pixel; gray mixes \
      both. (default: all is painted)
      """, valueName: "file"))
  var mask: String?

  @Option(
    help: ArgumentHelp(
      "Width of a soft edge inside the mask, in pixels of the model, 0 to 1024. (default: 0)", valueName: "n"))
  var feather: Int?

  /// The strength that holds where there is an image.
  var chosenStrength: Double { strength ?? (mask == nil ? 0.8 : 1) }

  /// Throws for options that mean nothing without others, and for a strength out of its range.
  func check() throws(Failure) {
    for (option, isGiven, other, hasOther) in [
      ("--strength", strength != nil, "--image", image != nil), ("--mask", mask != nil, "--image", image != nil),
      ("--feather", feather != nil, "--mask", mask != nil),
    ] where isGiven && !hasOther {
      throw .usage(option, expected: "none without \(other)", found: "one")
    }
    if let strength, !(0...1 ~= strength) { throw .usage("--strength", expected: "0…1", found: "\(strength)") }
    if let feather, !(0...1024 ~= feather) { throw .usage("--feather", expected: "0…1024", found: "\(feather)") }
  }

  /// The picture and its mask; nil where there is none.
  func picture(for dit: DiT, _ autoencoder: Autoencoder?) throws -> PictureEdit? {
    guard let image else { return nil }
    guard dit.configuration.samplesArePixels || autoencoder != nil else {
      throw Failure.usage(
        "--image", expected: "none, as samples of \(dit.configuration.network.inChannels) channels are no pictures",
        found: image)
    }
    return try PictureEdit(image, mask: mask, feather: feather ?? 0, for: dit, autoencoder: autoencoder)
  }
}
