import DiTTensor

/// What a run of N images is conditioned by. Each image has one of what is given.
///
/// A model with classes that is given none takes its null class; one with `text` or `context_image` that is given no sequence
/// takes empty ones.
public enum Condition: Equatable, Sendable {
  /// 0…`num_classes`−1.
  case classes([Int])
  /// Classes by their names, as ``LabelList`` reads each.
  case names([String])
  /// Texts of at most `text.length` bytes of UTF-8, for a model with `text`; guidance turns away from the empty text.
  case prompts([String], classes: [Int]? = nil)
  /// A program's own token embeddings, each (tokens, D), in the place of a text or an image.
  case embeddings([Tensor], classes: [Int]? = nil)
  /// Images, (N, C, h, w), for a model with `context_image`.
  case context(Tensor, classes: [Int]? = nil)
  /// N images of no class and no text.
  case none(count: Int)

  /// What an image is conditioned by, in one of the ways.
  package init(_ sequence: ConditioningSequence?, classes: [Int]?, count: Int) {
    switch sequence {
    case .texts(let texts): self = .prompts(texts, classes: classes)
    case .embeddings(let tokens): self = .embeddings(tokens, classes: classes)
    case .images(let images): self = .context(images, classes: classes)
    case nil: self = classes.map { .classes($0) } ?? .none(count: count)
    }
  }

  /// N.
  public var count: Int {
    switch self {
    case .classes(let classes): classes.count
    case .names(let names): names.count
    case .none(let count): count
    default: sequence?.count ?? 0
    }
  }

  var sequence: ConditioningSequence? {
    switch self {
    case .classes, .names, .none: nil
    case .prompts(let texts, _): .texts(texts)
    case .embeddings(let tokens, _): .embeddings(tokens)
    case .context(let images, _): .images(images)
    }
  }

  /// One class per image; nil where none is given.
  ///
  /// - Throws: `DiTError` (`classes`) for a name that is no class of the model.
  func classes(of model: ModelConfiguration) throws(DiTError) -> [Int]? {
    switch self {
    case .classes(let classes): return classes
    case .names(let names):
      var classes: [Int] = []
      for name in names {
        let found = try LabelList.parse(name, for: model)
        guard found.count == 1 else {
          throw DiTError(argument: "classes", expected: "the name of one class", found: "'\(name)'")
        }
        classes += found
      }
      return classes
    case .prompts(_, let classes), .embeddings(_, let classes), .context(_, let classes): return classes
    case .none: return nil
    }
  }
}
