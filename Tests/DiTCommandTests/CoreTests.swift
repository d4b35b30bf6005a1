import DiTFiles
import DiTKernels
import TestSupport
import Testing

/// An image has its bytes whatever the count, on every CPU: OpenBLAS is asked for its kernels for other CPUs, as far as
/// this one runs them.
@Suite("An image is the same whatever the count") struct CoreTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// OpenBLAS's names of kernel sets that this CPU runs.
  private static let cores: [String] =
    switch InstructionSet.supported {
    case .portable: ["Prescott", "Nehalem"]
    case .avx2: ["Prescott", "Nehalem", "SandyBridge", "Haswell", "Zen"]
    case .avx512: ["Prescott", "Nehalem", "SandyBridge", "Haswell", "Zen", "SkylakeX"]
    }

  /// The samples of the digits model, image by image.
  private func samples(_ count: Int, _ options: [String], _ environment: [String: String?]) async throws -> [[Float]] {
    let arguments = [
      "sample", "--classes", "3", "--count", "\(count)", "--steps", "3", "--guidance", "2", "--out",
      scratch.path("samples.safetensors"),
    ]
    let result = try await Tool.run(arguments + options, environment: environment)
    try #require(result.status == 0, "\(result.stderr)")
    let values = try scratch.tensors("samples.safetensors").floats("samples")
    try #require(values.count == count * 64)
    return (0..<count).map { Array(values[$0 * 64..<($0 + 1) * 64]) }
  }

  @Test("Image n is the same bytes at any count, at every level and on every OpenBLAS core", arguments: cores)
  func counts(_ core: String) async throws {
    for level in InstructionSet.allCases where level <= .supported {
      for gemm in ["auto", "blas"] {
        let environment = ["OPENBLAS_CORETYPE": core, "DIT_ISA": level.rawValue]
        let most = try await samples(8, ["--gemm", gemm], environment)
        for count in [1, 2, 3, 5] {
          let found = try await samples(count, ["--gemm", gemm], environment)
          #expect(found == Array(most.prefix(count)), "\(core), \(level), \(gemm), \(count) images")
        }
      }
    }
  }
}

extension InstructionSet {
  fileprivate static func <= (a: InstructionSet, b: InstructionSet) -> Bool {
    allCases.firstIndex(of: a)! <= allCases.firstIndex(of: b)!
  }
}
