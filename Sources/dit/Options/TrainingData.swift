import DiTPictures
import DiffusionTransformers
import Foundation

/// What `--data` names. A folder's pictures are not read before the model says what size they are wanted at.
enum TrainingData {
  case file(Dataset)
  case folder(ImageFolder)

  /// The data that `--data` names.
  init(_ data: String) throws {
    if let shipped = ShippedResources.DataSet(rawValue: data) {
      self = .file(try Dataset(contentsOf: shipped.images()))
    } else if data.lowercased().hasSuffix(".safetensors") {
      self = .file(try Dataset(contentsOf: data))
    } else if Self.isFolder(data) {
      self = .folder(try ImageFolder(data))
    } else {
      throw Failure.usage("--data", expected: "digits, emoji, a .safetensors file or a folder of pictures", found: data)
    }
  }

  /// Whether there is a folder of that path.
  static func isFolder(_ path: String) -> Bool {
    (try? URL(filePath: path).resourceValues(forKeys: [.isDirectoryKey]))?.isDirectory == true
  }

  var classNames: [String]? {
    switch self {
    case .file(let data): data.classNames
    case .folder(let folder): folder.classNames
    }
  }

  /// How many classes the data say they have; nil where they only have labels, or none.
  var statedClasses: Int? {
    switch self {
    case .file(let data): data.classNames?.count
    case .folder(let folder): folder.classNames?.count ?? 0
    }
  }

  /// One more than the largest label where no names say more; nil without labels.
  var classCount: Int? {
    switch self {
    case .file(let data): data.classNames?.count ?? data.labels?.max().map { $0 + 1 }
    case .folder(let folder): folder.classNames?.count
    }
  }

  /// The name that errors give the data.
  private var name: String {
    switch self {
    case .file(let data): data.name
    case .folder(let folder): folder.path
    }
  }

  /// The data at the model's input size, and what a person should know.
  func dataset(for model: ModelConfiguration, _ training: TrainingConfiguration) throws -> (Dataset, notes: [String]) {
    switch self {
    case .file(let data): return (data, [])
    case .folder(let folder):
      let network = model.network
      guard [1, 3].contains(network.inChannels) else {
        throw Failure.input(
          folder.path, "pictures", expected: "a model of 1 or 3 channels", found: "in_channels \(network.inChannels)")
      }
      let (data, notes) = try folder.dataset(
        channels: network.inChannels, height: network.inputHeight, width: network.inputWidth,
        options: ImageFolderOptions(
          brokenImages: training.brokenImages, cacheBytes: training.cacheMegabytes << 20))
      return (data, folder.notes + notes)
    }
  }

  // MARK: The model's classes

  /// The keys of a configuration's model that follow from the data where the configuration leaves them out.
  func completed(_ model: JSONValue) -> JSONValue {
    guard case .object(var members) = model else { return model }
    func stated(_ key: String) -> JSONValue? { members.first { $0.key == key }?.value }
    if let classes = statedClasses, stated("num_classes") == nil {
      members.append(JSONMember("num_classes", .integer(classes)))
    }
    if let names = classNames, stated("class_names") == nil,
      [nil, .integer(names.count)].contains(stated("num_classes"))
    {
      members.append(JSONMember("class_names", .array(names.map { .string($0) })))
    }
    return .object(members)
  }

  /// Throws where the classes of a configuration's model contradict the data's. A model without classes takes any data; names
  /// may be other words for the same classes, but not the same words in another order.
  func check(_ model: ModelConfiguration, file: String) throws {
    let classes = model.network.numClasses
    guard let stated = statedClasses, classes > 0 else { return }
    guard classes == stated else {
      throw ConfigurationFileError(
        file: file, key: "model.num_classes",
        expected: stated == 0 ? "0, as \(name) has no class folders" : "\(stated), the classes of \(name), or 0",
        found: "\(classes)")
    }
    if let names = classNames, let given = model.classNames, names != given, Set(names) == Set(given) {
      throw ConfigurationFileError(
        file: file, key: "model.class_names", expected: "the order of \(name): \(names.joined(separator: ", "))",
        found: given.joined(separator: ", "))
    }
  }

  /// Gives a model to start from the classes of the data, where they say any.
  func setClasses(of model: inout ModelConfiguration) -> [String] {
    guard let classes = classCount else {
      if statedClasses == 0 {
        (model.network.numClasses, model.classNames) = (0, nil)
        model.sampling.guidance = Guidance(scale: 1)
      }
      return []
    }
    if classes != model.network.numClasses {
      (model.network.numClasses, model.classNames) = (classes, classNames)
      return []
    }
    guard let names = classNames, names != model.classNames else { return [] }
    let old = model.classNames
    model.classNames = names
    return old == nil ? [] : ["class names: those of \(name) take the place of the model's; their weights are kept"]
  }
}
