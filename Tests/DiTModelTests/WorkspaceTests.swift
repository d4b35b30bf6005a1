import DiTKernels
import DiTModel
import TestSupport
import Testing

@Suite("What a workspace says it takes is what it takes") struct WorkspaceTests {
  private static var configuration: DiTConfiguration {
    DiTConfiguration(
      inputHeight: 16, inputWidth: 8, patchSize: 2, inChannels: 3, hiddenSize: 48, depth: 3, numHeads: 3, numClasses: 5)
  }

  /// The published parts, and JiT's and pMF's.
  private static let configurations: [DiTConfiguration] = {
    var jit = configuration
    (jit.norm, jit.mlp, jit.qkNorm, jit.position) = (.rms, .swiglu, true, .sincosRope)
    (jit.patchBottleneck, jit.inContextTokens, jit.inContextStart) = (24, 8, 1)
    jit.bias.patchBottleneck = false
    var pmf = configuration
    (pmf.norm, pmf.mlp, pmf.qkNorm, pmf.position) = (.rms, .swiglu, true, .learnedRope)
    (pmf.conditioning, pmf.residualGates, pmf.patchBottleneck) = (.tokens, .vector, 24)
    pmf.tokenGroups = TokenGroups(classes: 3, omega: 2, tMin: 1, tMax: 1, time: 2)
    (pmf.bias.qkv, pmf.bias.proj, pmf.bias.mlp) = (false, false, false)
    return [configuration, jit, pmf]
  }()

  private static func network(_ configuration: DiTConfiguration, gemm: GEMM) throws -> DiTNetwork {
    DiTNetwork(
      configuration, weights: Weights.initialized(configuration, seed: 1).weights,
      context: try ComputeContext(threads: 1, instructionSet: .portable), numerics: Numerics(gemm: gemm))
  }

  /// Beyond the plan there is attention's scratch and, with packed products, packed operands: less than a quarter of this
  /// small network's workspace, and of a large one's less yet. In training what OpenBLAS needs beside them lies in the
  /// packed operands' memory, so that the plan may be a little more than they take. The plan has memory for the two halves of
  /// SwiGLU in inference, which only OpenBLAS needs.
  @Test("The plan of a configuration is its workspace but for scratch", arguments: [8, 20], configurations)
  func planIsWorkspace(samples: Int, c: DiTConfiguration) throws {
    for gemm in [GEMM.blas, .packed] {
      let network = try Self.network(c, gemm: gemm)
      let inference = InferenceWorkspace(network, samples: samples).byteCount / 4
      let training = TrainingWorkspace(network, samples: samples).byteCount / 4
      let plans = (InferenceWorkspace.elements(c, samples: samples), TrainingWorkspace.elements(c, samples: samples))
      let largest = gemm == .packed && c.mlp == .swiglu ? inference * 3 / 2 : inference
      #expect(plans.0 < largest && plans.0 > inference * 3 / 4, "inference: \(plans.0) of \(inference)")
      let most = gemm == .blas ? training : training * 9 / 8
      #expect(plans.1 < most && plans.1 > training * 3 / 4, "training: \(plans.1) of \(training)")
      #expect(plans.0 > samples * c.tokens * 7 * c.hiddenSize, "tokens, h, attention, projection, q, k and v at least")
      #expect(plans.1 > samples * c.tokens * c.depth * 12 * c.hiddenSize, "what three blocks save at least")
    }
  }

  @Test("A plan grows with samples, depth and width, and by less than 1 % more than in proportion to samples")
  func planGrows() {
    let c = Self.configuration
    for elements in [InferenceWorkspace.elements, TrainingWorkspace.elements] {
      let one = elements(c, 1)
      #expect(abs(Double(elements(c, 8)) / Double(8 * one) - 1) < 0.01)
      var wide = c
      wide.hiddenSize = 96
      #expect(elements(wide, 1) > 3 * one / 2)
    }
    var deep = c
    deep.depth = 6
    #expect(TrainingWorkspace.elements(deep, samples: 1) > 3 * TrainingWorkspace.elements(c, samples: 1) / 2)
    #expect(InferenceWorkspace.elements(deep, samples: 1) == InferenceWorkspace.elements(c, samples: 1))
  }
}
