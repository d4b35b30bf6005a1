import DiTFiles
import DiTKernels
import DiTPipeline
import Foundation
import Testing

@Suite("dit info") struct InfoTests {
  @Test("dit info tells CPU, instruction set, BLAS and threads")
  func saysWhatRuns() async throws {
    let info = try await JSON(["info", "--json", "--threads", "3"], environment: ["DIT_ISA": "portable"])
    #expect(info["threads"] == .integer(3))
    #expect(info["isa"] == .string("portable"))
    #expect(info["blas_narrowed"] == .bool(false))
    for key in ["cpu", "blas", "blas_core", "isa_supported"] {
      guard case .string(let text)? = info[key] else {
        Issue.record("\(key) is missing")
        continue
      }
      #expect(!text.isEmpty, "\(key)")
    }
    let text = try await succeed(["info", "--threads", "3"]).stdout
    #expect(text.contains("threads       3") && text.contains("OpenBLAS"))
    #expect(!text.contains("parameters"))
  }

  /// Who multiplies when nobody chooses, and whether the CPU has products of bf16: never at a narrow level.
  @Test("dit info tells which products run and whether bf16 is native")
  func tellsTheProducts() async throws {
    let isPacked = Numerics().isPacked(on: try ComputeContext(threads: 1, instructionSet: .portable))
    let gemm = isPacked ? "packed" : "blas"
    let narrow = try await JSON(["info", "--json"], environment: ["DIT_ISA": "portable"])
    #expect(narrow["native_bf16"] == .bool(false) && narrow["gemm"] == .string(gemm))
    let text = try await succeed(["info"], environment: ["DIT_ISA": "portable"]).stdout
    #expect(text.contains("\nbf16          computed in fp32 from rounded operands\n"), "\(text)")
    #expect(text.contains("\ngemm          \(gemm) for fp32, packed for bf16"), "\(text)")
    guard InstructionSet.supported == .avx512 else { return }
    let wide = try await JSON(["info", "--json"], environment: ["DIT_ISA": "avx512"])
    let isNative = try ComputeContext(threads: 1, instructionSet: .avx512).hasNativeBF16
    #expect(wide["native_bf16"] == .bool(isNative) && wide["gemm"] == .string("packed"))
    let lines = try await succeed(["info"], environment: ["DIT_ISA": "avx512"]).stdout
    #expect(lines.contains("\nbf16          \(isNative ? "the CPU's products" : "computed in fp32")"), "\(lines)")
    #expect(lines.contains("\ngemm          packed for fp32, packed for bf16"), "\(lines)")
  }

  /// The counts are those of the published tables.
  @Test(
    "Parameters and multiply-adds of DiT-S/2 and DiT-XL/2 are the published ones",
    arguments: [("DiT-S/2", 32_963_360, 6_060_000_000.0), ("DiT-XL/2", 675_129_632, 118_640_000_000.0)])
  func countsPublishedModels(_ name: String, _ parameters: Int, _ multiplyAdds: Double) async throws {
    let info = try await JSON(["info", name, "--json"])
    #expect(info["model", "parameters"] == .integer(parameters))
    guard case .integer(let macs)? = info["model", "macs"] else {
      Issue.record("macs is missing")
      return
    }
    #expect(abs(Double(macs) / multiplyAdds - 1) < 0.01, "\(macs)")
    let text = try await succeed(["info", name]).stdout
    #expect(text.contains(parameters == 32_963_360 ? "32,963,360" : "675,129,632"))
  }

  @Test("dit info prints a model's whole configuration")
  func showsTheConfiguration() async throws {
    let info = try await JSON(["info", Model.oblong, "--json"])
    let expected = try ModelConfiguration(contentsOf: Model.oblong + "/config.json")
    #expect(info["model", "configuration"] == expected.json)
    let text = try await succeed(["info", Model.oblong]).stdout
    #expect(text.contains(expected.json.text))
  }

  @Test("dit info of a bare state dict needs --heads")
  func headsOfAStateDict() async throws {
    let file = Model.digits + "/model.safetensors"
    let info = try await JSON(["info", file, "--heads", "8", "--json"])
    #expect(info["model", "configuration", "num_heads"] == .integer(8))
    try await expectFailure(["info", file], 65, [file, "heads"])
    try await expectFailure(["info", "DiT-S/2", "--heads", "3"], 64, ["--heads", "6"])
  }

  /// Only where the CPU has something to be held back from.
  @Test("OpenBLAS with kernels narrower than the CPU's gives a warning")
  func warnsOfANarrowedBLAS() async throws {
    guard try await JSON(["info", "--json"])["isa_supported"] != .string("portable") else { return }
    let narrow = ["OPENBLAS_CORETYPE": "Prescott"] as [String: String?]
    let result = try await succeed(["info", "--json"], environment: narrow)
    #expect(result.stderr.hasPrefix("Warning: OpenBLAS runs its Prescott kernels"), "\(result.stderr)")
    #expect(try JSON(result.stdout)["blas_narrowed"] == .bool(true))
    #expect(try await succeed(["info"]).stderr.isEmpty)
    let failed = try await Tool.run(["info", "/nowhere"], environment: narrow)
    #expect(failed.error == "Error: /nowhere: no such file")
  }

  @Test("A model that is not there is said with those that are; a folder without one, with what it should have")
  func noModel() async throws {
    let scratch = try Scratch()
    for word in ["fashoin", "Digits"] {
      try await expectFailure(
        ["info", word], 65, ["Error: \(word): no such file, nor a model that ships with the tool (digits, fashion)"])
    }
    try FileManager.default.createDirectory(atPath: scratch.path("empty"), withIntermediateDirectories: false)
    try await expectFailure(
      ["info", scratch.path("empty")], 65, ["empty: expected config.json and weights in it", "found no config.json"])
    try await expectFailure(
      ["train", "--data", "nowhere", "--out", scratch.path("run")], 64, ["found nowhere, where there is nothing"])
  }
}

/// What `--json` printed.
struct JSON {
  private let value: JSONValue

  init(_ text: String) throws { value = try JSONValue(parsing: Array(text.utf8), file: "stdout") }

  init(_ arguments: [String], environment: [String: String?] = [:]) async throws {
    try self.init(try await succeed(arguments, environment: environment).stdout)
  }

  /// The value at a path of keys.
  subscript(_ keys: String...) -> JSONValue? {
    keys.reduce(value as JSONValue?) { value, key in
      guard case .object(let members)? = value else { return nil }
      return members.first { $0.key == key }?.value
    }
  }

  /// The numbers under `key` in each object of the array `list`.
  func numbers(_ list: String, _ key: String) -> [Double] {
    guard case .array(let values)? = self[list] else { return [] }
    return values.compactMap { value in
      guard case .object(let members) = value else { return nil }
      switch members.first(where: { $0.key == key })?.value {
      case .integer(let number)?: return Double(number)
      case .number(let number)?: return number
      default: return nil
      }
    }
  }
}
