import DiTFiles
import DiTModel
import DiTPipeline
import DiTTensor
import Testing

@Suite("A user's list of classes") struct LabelListTests {
  private func model(_ names: [String]?, classes: Int? = nil) -> ModelConfiguration {
    var network = smallNetwork
    network.numClasses = classes ?? names?.count ?? 10
    return ModelConfiguration(network: network, classNames: names)
  }

  private func problem(_ list: String, _ model: ModelConfiguration) -> DiTError? {
    do throws(DiTError) {
      let found = try LabelList.parse(list, for: model)
      Issue.record("\(list): \(found)")
      return nil
    } catch {
      return error
    }
  }

  @Test("Numbers and ranges keep their order and repetitions")
  func numbers() throws {
    #expect(try LabelList.parse("7,2-4,7", for: model(nil)) == [7, 2, 3, 4, 7])
    #expect(try LabelList.parse(" 3 , 5-5", for: model(nil)) == [3, 5])
    for (list, word) in [("10", "10"), ("8-12", "8-12"), ("3,11", "11")] {
      let error = try #require(problem(list, model(nil)))
      #expect(error == DiTError(argument: "classes", expected: "classes in 0…9", found: "'\(word)'"))
    }
    for list in ["", "3,,4", "5-3", "-1", "1-2-3", "cat"] {
      let error = try #require(problem(list, model(nil)))
      #expect(error.expected == "classes such as 3, 0,3,7 or 0-9", "\(list)")
    }
  }

  @Test("A name means its class, also one with commas, one of several, and one that looks like a number")
  func names() throws {
    let model = model(["tench, Tinca tinca", "goldfish", "7", "Cat", "cat"])
    #expect(try LabelList.parse("tench, Tinca tinca", for: model) == [0])
    #expect(try LabelList.parse("Tinca tinca,GOLDFISH", for: model) == [0, 1])
    #expect(try LabelList.parse("7", for: model) == [2])
    #expect(try LabelList.parse("Cat,cat,4", for: model) == [3, 4, 4])
    let error = try #require(problem("CAT", model))
    #expect(error.expected == "a number, as classes 3, 4 have that name" && error.found == "'CAT'")
  }

  @Test("Names that look alike are chosen by number, and the error shows how they differ")
  func namesThatLookAlike() throws {
    let names = ["caf\u{e9}", "zoo", "cafe\u{301}"]
    for name in [names[0], names[2]] {
      let error = try #require(problem("1,\(name)", model(names)))
      #expect(
        error.expected == #"a number, as classes 0 "caf\u{e9}", 2 "cafe\u{301}" have that name"#
          && error.found?.utf8.elementsEqual("'\(name)'".utf8) == true)
    }
    #expect(try LabelList.parse("2,zoo", for: model(names)) == [2, 1])
    #expect(try LabelList.parse("cafe\u{301}", for: model(["caf\u{e9}", "zoo"])) == [0])
  }

  @Test("A folder's name that is not UTF-8 is taken as it is shown, and as its bytes")
  func namesInLatin1() throws {
    let model = model([#"caf\xe9"#, "zoo"])
    let typed = FileName.string(of: [0x63, 0x61, 0x66, 0xE9])
    #expect(try LabelList.parse(#"caf\xe9,zoo"#, for: model) == [0, 1])
    #expect(try LabelList.parse("zoo,\(typed)", for: model) == [1, 0])
  }

  @Test("An unknown word is answered with the three names nearest to it by Levenshtein distance")
  func suggestions() throws {
    let error = try #require(problem("goldfsh", model(["goldfinch", "zebra and all the others", "goldfish", "hen"])))
    #expect(
      try #require(error.expected).hasSuffix(", or names, of which the nearest are goldfish, goldfinch, hen"),
      "\(error)")
    let beginning = try #require(problem("gold", model(["hold", "cold", "goldfinches of the north"])))
    #expect(try #require(beginning.expected).contains("nearest are goldfinches of the north, "), "\(beginning)")
    #expect(try #require(problem("onyx", model(["only"]))?.expected).hasSuffix("the nearest is only"))
    #expect(try #require(problem("靴", model(["boot", "coat"]))?.expected).hasSuffix(", or names: boot, coat"))
    let many = try #require(problem("x", model((0..<30).map { "n\($0)" }))?.expected)
    #expect(many.hasSuffix("n18, n19, …"), "\(many)")
  }

  @Test("Chinese commas stand between classes too, unless a name has them")
  func chineseCommas() throws {
    let model = model(["鞋", "外套", "圆，方"])
    #expect(try LabelList.parse("外套，鞋、1", for: model) == [1, 0, 1])
    #expect(try LabelList.parse("圆，方,鞋", for: model) == [2, 0])
    #expect(try #require(problem("鞋，帽", model)).found == "'帽'")
  }
}
