import DiTEvaluation
import DiTFiles
import DiTTensor
import Foundation
import Testing

@Suite("Parts and names of a set") struct SplitTests {
  @Test("Every fifth sample is for tests, the others for training, both in their order")
  func parts() throws {
    let set = SampleSet("x", depth: 2, (0..<24).map(Float.init), labels: Array(0..<12))
    let (test, train) = (set.part(.test, name: "x:test"), set.part(.train))
    #expect(try test.labels == [4, 9] && test.name == "x:test" && test.elements(0..<2) == [8, 9, 18, 19])
    #expect(train.labels == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11] && train.name == "x")
  }

  @Test("Class names are those of the file's metadata, where that is a list of strings")
  func classNames() throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "dit-names-\(UUID()).safetensors").path(
      percentEncoded: false)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let cases: [(metadata: [String: String], names: [String]?)] = [
      (["class_names": #"["a", "b"]"#], ["a", "b"]), ([:], nil), (["class_names": #"["a", 1]"#], nil),
      (["class_names": "a, b"], nil),
    ]
    for (metadata, names) in cases {
      try SafetensorsWriter.write([TensorSource("x", Tensor(zeros: [2]))], metadata: metadata, to: path)
      #expect(try SampleSet.classNames(of: path) == names, "\(metadata)")
    }
  }
}
