import ArgumentParser
import DiTEngine
import Foundation

/// `dit info`: the machine, and a model's configuration and size.
struct InfoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info",
    abstract: "Show the machine's capabilities and a model's configuration and size.",
    discussion: """
      The CPU, the instruction set in use, OpenBLAS's build and core, and threads;
      with a model also its configuration, exact parameter count, and the
      multiply-adds (MACs) of one forward pass for one image.

        dit info
        dit info DiT-XL/2
        dit info runs/digits --json

      The environment variable DIT_ISA (portable, avx2, avx512) forces an instruction set.
      """)

  @Argument(
    help:
      "A model directory, a diffusers directory, a .safetensors or .pt state dict, digits, fashion, or a published name such as DiT-S/2."
  )
  var model: String?

  @OptionGroup var hints: HintOptions
  @OptionGroup var threads: ThreadsOption

  @Flag(help: "Print one JSON object instead of text.")
  var json = false

  func run() throws {
    let context = try threads.context()
    let described = try model.map { name in
      let path = try ShippedResources.model(name)
      return (name, ModelReport(try hints.described(path), storage: try ModelReference(path).storage()))
    }
    let machine = MachineReport(context)
    if json {
      var members = machine.members
      if let (_, model) = described { members.append(JSONMember("model", model.json)) }
      try StandardOutput.write(JSONValue.object(members).text, terminator: "")
    } else {
      let model = described.map { name, model in "\nmodel         \(name)\n\(model.text)" }
      try StandardOutput.write("\(machine.text)\n\(model ?? "")", terminator: "")
    }
    Warnings.write(for: described?.1.model)
  }
}

/// The machine, and how the engine uses it.
private struct MachineReport {
  let cpu = cpuName()
  let processors = ComputeContext.availableProcessors
  let blas = BLASReport.current
  let isa: InstructionSet
  let threads: Int
  let hasNativeBF16, hasNativeInt8: Bool
  let gemm: String

  init(_ context: ComputeContext) {
    isa = context.instructionSet
    threads = context.threads
    hasNativeBF16 = context.hasNativeBF16
    hasNativeInt8 = context.hasNativeInt8
    gemm = Numerics().isPacked(on: context) ? "packed" : "blas"
  }

  var text: String {
    """
    CPU           \(cpu), \(processors) \(processors == 1 ? "processor" : "processors") to use
    instructions  \(isa.rawValue) in use, \(InstructionSet.supported.rawValue) supported
    bf16          \(hasNativeBF16 ? "the CPU's products" : "computed in fp32 from rounded operands")
    int8          \(hasNativeInt8 ? "the CPU's products" : "computed from products of 16 bits")
    gemm          \(gemm) for fp32, packed for bf16 and int8, unless chosen by --gemm
    BLAS          \(blas.configuration)
    BLAS core     \(blas.core)\(blas.isNarrowed ? " (narrower than the CPU)" : "")
    threads       \(threads)\(threads > processors ? ", of which \(processors) run at once" : "")
    """
  }

  var members: [JSONMember] {
    [
      JSONMember("cpu", .string(cpu)), JSONMember("processors", .integer(processors)),
      JSONMember("isa", .string(isa.rawValue)),
      JSONMember("isa_supported", .string(InstructionSet.supported.rawValue)),
      JSONMember("native_bf16", .bool(hasNativeBF16)),
      JSONMember("native_int8", .bool(hasNativeInt8)), JSONMember("gemm", .string(gemm)),
      JSONMember("blas", .string(blas.configuration)), JSONMember("blas_core", .string(blas.core)),
      JSONMember("blas_narrowed", .bool(blas.isNarrowed)), JSONMember("threads", .integer(threads)),
    ]
  }

  private static func cpuName() -> String {
    #if os(macOS)
      var bytes = [CChar](repeating: 0, count: 256)
      var size = bytes.count
      guard unsafe sysctlbyname("machdep.cpu.brand_string", &bytes, &size, nil, 0) == 0 else { return "unknown" }
      return String(decoding: bytes.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    #else
      let file = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
      let line = file.split(separator: "\n").first { $0.hasPrefix("model name") }
      return line?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown"
    #endif
  }
}

/// A model's configuration and size.
private struct ModelReport {
  let model: ModelConfiguration
  let table: ParameterTable
  /// How the family was told.
  let reason: String?
  let storage: WeightStorage?

  init(_ described: LoadedModel, storage: WeightStorage?) {
    self.storage = storage
    model = described.configuration
    table = ParameterTable(model.network)
    reason = described.familyReason
  }

  /// Where there is a file, what is in it.
  private var storedLine: String { storage.map { "\nweights       \($0.text)" } ?? "" }

  var text: String {
    """
    parameters    \(table.parameterCount.grouped), of which \(table.trainableCount.grouped) are trained\(storedLine)
    MACs          \(model.network.multiplyAdds.grouped) for one forward pass of one image
    family        \(model.family.summary)\(reason.map { "; \($0)" } ?? "")
    process       \(model.processSummary)
    sampling      \(model.samplingSummary)
    configuration
    \(model.json.text)
    """
  }

  var json: JSONValue {
    .object([
      JSONMember("parameters", .integer(table.parameterCount)),
      JSONMember("trainable_parameters", .integer(table.trainableCount)),
      JSONMember("weights", storage.map { .string($0.text) } ?? .null),
      JSONMember("macs", .integer(model.network.multiplyAdds)), JSONMember("family", .string(model.family.rawValue)),
      JSONMember("family_reason", reason.map { .string($0) } ?? .null),
      JSONMember("process", .string(model.processSummary)),
      JSONMember("sampling", .string(model.samplingSummary)), JSONMember("configuration", model.json),
    ])
  }
}

extension Int {
  /// 32963360 as 32,963,360.
  var grouped: String {
    var text = ""
    for (index, digit) in String(self).reversed().enumerated() {
      if index > 0, index % 3 == 0, digit != "-" { text.append(",") }
      text.append(digit)
    }
    return String(text.reversed())
  }
}
