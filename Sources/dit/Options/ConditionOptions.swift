import ArgumentParser
import DiTEngine

/// What conditions images beside their classes.
struct ConditionOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Text prompt, for a model with text, at most text.length bytes of UTF-8 (a Chinese character takes three); \
      guidance is relative to the empty text. (default: the empty text)
      """, valueName: "text"))
  var prompt: String?

  @Option(
    help: ArgumentHelp(
      """
      A safetensors file with context (N, C, h, w), one image per sample, for a model with context_image. \
      (default: none)
      """, valueName: "file"))
  var context: String?

  /// Throws unless the model takes what is given.
  func validate(for model: ModelConfiguration) throws(Failure) {
    switch model.network.sequence {
    case .text(let length):
      if let bytes = prompt?.utf8.count, bytes > length {
        throw .usage("--prompt", expected: "at most \(length) bytes of UTF-8, as text.length says", found: "\(bytes)")
      }
    default:
      if prompt != nil { throw .usage("--prompt", expected: "none, as the model takes no text", found: "a text") }
    }
    if case .image = model.network.sequence { return }
    if context != nil {
      throw .usage("--context", expected: "none, as the model takes no context image", found: "a file")
    }
  }

  /// The images of `--context`.
  func contextImages() throws -> Tensor? {
    try context.map { try TensorFile($0).images("context") }
  }

  /// The sequences of `count` images.
  func sequence(_ count: Int, _ images: Tensor?) throws(Failure) -> ConditioningSequence? {
    if let prompt { return .texts([String](repeating: prompt, count: count)) }
    guard let images, let context else { return nil }
    guard images.shape[0] == count else {
      throw .input(context, "tensor context", expected: "\(count) images", found: "shape \(images.shape)")
    }
    return .images(images)
  }
}
