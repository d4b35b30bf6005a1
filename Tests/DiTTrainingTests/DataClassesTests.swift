import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor
import DiTTraining
import Testing

@Suite("Classes of the data and of the model") struct DataClassesTests {
  private let named = DataClasses(source: "data", names: ["a", "b", "c"], statedCount: 3, count: 3)
  private let labeled = DataClasses(source: "data", names: nil, statedCount: nil, count: 5)
  private let classless = DataClasses(source: "data", names: nil, statedCount: 0, count: nil)

  private func json(_ text: String) throws -> JSONValue { try JSONValue(parsing: Array(text.utf8), file: "x") }

  private func model(_ classes: Int, _ names: [String]? = nil) -> ModelConfiguration {
    var model = tinyModel(classes: classes)
    model.classNames = names
    return model
  }

  @Test("A data set states its names, or only as many classes as its largest label needs")
  func dataset() throws {
    let images = Tensor(zeros: [3, 1, 2, 2])
    #expect(
      DataClasses(try Dataset(images, labels: [0, 4, 2], name: "x"))
        == DataClasses(source: "x", names: nil, statedCount: nil, count: 5))
    #expect(
      DataClasses(try Dataset(images, labels: [0, 1, 0], classNames: ["p", "q", "r"], name: "x"))
        == DataClasses(source: "x", names: ["p", "q", "r"], statedCount: 3, count: 3))
    #expect(
      DataClasses(try Dataset(images, name: "x")) == DataClasses(source: "x", names: nil, statedCount: nil, count: nil))
  }

  @Test("A configuration takes from the data what it leaves out, and nothing else")
  func completed() throws {
    let cases: [(DataClasses, String, String)] = [
      (named, "{}", #"{"num_classes": 3, "class_names": ["a", "b", "c"]}"#),
      (named, #"{"num_classes": 3}"#, #"{"num_classes": 3, "class_names": ["a", "b", "c"]}"#),
      (named, #"{"num_classes": 2}"#, #"{"num_classes": 2}"#),
      (
        named, #"{"class_names": ["x", "y", "z"]}"#, #"{"class_names": ["x", "y", "z"], "num_classes": 3}"#
      ),
      (labeled, "{}", #"{"num_classes": 5}"#), (labeled, #"{"num_classes": 9}"#, #"{"num_classes": 9}"#),
      (classless, "{}", #"{"num_classes": 0}"#),
    ]
    for (classes, given, expected) in cases {
      #expect(classes.completed(try json(given)) == (try json(expected)), "\(given)")
    }
  }

  @Test("Other numbers of classes and names in another order are refused by key; other names and none are not")
  func check() throws {
    func key(_ classes: DataClasses, _ model: ModelConfiguration) -> String? {
      do throws(DiTError) {
        try classes.check(model, file: "c.json")
        return nil
      } catch {
        #expect(error.file == "c.json")
        return error.key
      }
    }
    #expect(key(named, model(4)) == "model.num_classes" && key(classless, model(3)) == "model.num_classes")
    #expect(key(named, model(3, ["b", "a", "c"])) == "model.class_names")
    #expect(key(named, model(3, ["x", "y", "z"])) == nil && key(named, model(3, ["a", "b", "c"])) == nil)
    #expect(key(named, model(0)) == nil && key(labeled, model(3)) == nil)
  }

  @Test("A model to start from takes the classes of the data, with a note where only names change")
  func apply() {
    var other = model(7, nil)
    #expect(named.apply(to: &other).isEmpty)
    #expect(other.network.numClasses == 3 && other.classNames == ["a", "b", "c"])
    var renamed = model(3, ["x", "y", "z"])
    #expect(named.apply(to: &renamed).count == 1 && renamed.classNames == ["a", "b", "c"])
    var nameless = model(3, nil)
    #expect(named.apply(to: &nameless).isEmpty && nameless.classNames == ["a", "b", "c"])
    var unconditional = model(3, ["x", "y", "z"])
    #expect(classless.apply(to: &unconditional).isEmpty)
    #expect(unconditional.network.numClasses == 0 && unconditional.classNames == nil)
    #expect(unconditional.sampling.guidance.scale == 1)
    var same = model(5, nil)
    #expect(labeled.apply(to: &same).isEmpty && same == model(5, nil))
  }
}
