import DiTKernels
import DiTTensor

/// A kernel over operands of one size: what is drawn, the call, and what its results are in Double.
///
/// The suites of `DiTKernelsTests` run over ``KernelCases/all`` of them, and `dit-bench` times ``KernelCases/measured``.
public protocol KernelCase: Sendable, CustomStringConvertible {
  /// The sizes, formats and ways that are tested.
  static var all: [Self] { get }
  /// The kernels of `kernels.def` that it calls, no others.
  var kernels: Set<String> { get }

  /// Inputs by name, and by a result's name what the kernel adds to.
  func draw(_ draw: inout Draw) -> [String: [Float]]
  /// Lays out the operands, runs what comes before, and returns the call that is measured.
  func prepare(_ o: Operands, _ context: ComputeContext) -> () -> Void
  /// Every result.
  func expected(_ x: Inputs) -> [Expectation]

  /// Small sizes whose gradients are compared with central differences of ``loss(_:)``.
  static var differenced: [Self] { get }
  /// The results that are gradients, by the names of their inputs.
  var gradients: [String: String] { get }
  /// Σ dy ⊙ y in Double.
  func loss(_ x: Inputs) -> Double

  /// What PyTorch computed.
  static var fixtures: [KernelFixture] { get }
  /// What `dit-bench` times.
  static var measured: [KernelSpeed] { get }
}

extension KernelCase {
  public static var differenced: [Self] { [] }
  public var gradients: [String: String] { [:] }
  public func loss(_ x: Inputs) -> Double { 0 }
  public static var fixtures: [KernelFixture] { [] }
  public static var measured: [KernelSpeed] { [] }

  /// The same at every call.
  public var inputs: [String: [Float]] {
    var draw = Draw(seed: 75)
    return self.draw(&draw)
  }

  /// What the kernel makes of them.
  public func run(_ context: ComputeContext, _ inputs: [String: [Float]]) -> KernelRun {
    let operands = Operands(inputs)
    prepare(operands, context)()
    return KernelRun(results: operands.results, damage: operands.damage)
  }
}

/// The one list of what kernels do. A kernel that no case calls fails a test.
public enum KernelCases {
  private static let types: [any KernelCase.Type] = [
    LayerNormCase.self, RMSNormCase.self, GateBackwardCase.self, GroupNormalizationCase.self, GELUCase.self,
    SiLUCase.self, AdditionCase.self, RoundingCase.self, RowSumCase.self, DropoutCase.self, GatedAdditionCase.self,
    AdamWCase.self,
    SumOfSquaresCase.self, ProductCase.self, WeightGradientCase.self, LinearLayerCase.self, SwiGLUCase.self,
    SwiGLUBackwardCase.self, SwiGLULayerCase.self, AttentionCase.self, RotationCase.self, HeadCase.self,
    ConvolutionCase.self, PatchConvolutionCase.self, WindowCase.self, Int8ProductCase.self, Int8NormCase.self,
    ForecastCase.self,
  ]

  public static let all: [any KernelCase] = types.flatMap { cases($0) }
  public static let differenced: [any KernelCase] = types.flatMap { differenced($0) }
  public static let fixtures: [KernelFixture] = types.flatMap { $0.fixtures }
  public static let measured: [KernelSpeed] = types.flatMap { $0.measured }

  private static func cases<Case: KernelCase>(_ type: Case.Type) -> [any KernelCase] { type.all }
  private static func differenced<Case: KernelCase>(_ type: Case.Type) -> [any KernelCase] { type.differenced }
}

/// What a kernel wrote.
public struct KernelRun: Sendable {
  public struct Result: Sendable {
    public let name: String
    public let format: Format
    public let values: [Float]
  }

  public let results: [Result]
  /// What was written where it must not be: see ``Operands/damage``.
  public let damage: String?

  /// For comparing runs bit by bit.
  public var named: [(String, [Float])] { results.map { ($0.name, $0.values) } }

  subscript(name: String) -> Result? { results.first { $0.name == name } }
}

/// A case with inputs and results from a file.
public struct KernelFixture: Sendable, CustomStringConvertible {
  public struct Contents {
    public var kernel: any KernelCase
    public var inputs: [String: [Float]]
    /// Not all results need be there.
    public var results: [String: [Double]]
    /// Where it is not the case's own.
    public var tolerance: Tolerance?
  }

  public let description: String
  public let load: @Sendable () throws -> Contents

  init(_ description: String, load: @escaping @Sendable () throws -> Contents) {
    self.description = description
    self.load = load
  }
}

/// A case at the size of a network, and the work that its rate is computed from.
public struct KernelSpeed: Sendable {
  public enum Work: Sendable {
    /// Arrays, in words (r read, w written), and bytes moved.
    case bytes(String, Int)
    case operations(Double)
  }

  public let name: String
  public let work: Work
  public let kernel: any KernelCase

  init(_ name: String, _ work: Work, _ kernel: any KernelCase) {
    self.name = name
    self.work = work
    self.kernel = kernel
  }
}

/// A case's inputs in Double: the Float values exactly, or near them for differences.
public struct Inputs: Sendable {
  private var values: [String: [Double]]

  public init(_ floats: [String: [Float]]) { values = floats.mapValues(\.doubles) }

  public subscript(name: String) -> [Double] {
    get {
      guard let found = values[name] else { preconditionFailure("no input \(name)") }
      return found
    }
    set { values[name] = newValue }
  }

  public func contains(_ name: String) -> Bool { values[name] != nil }

  public func floats(_ name: String) -> [Float] { self[name].map { Float($0) } }

  /// What is left of an input in a format.
  func rounded(_ name: String, to format: Format) -> [Double] {
    format == .bf16 ? floats(name).roundedToBF16.doubles : self[name]
  }
}
