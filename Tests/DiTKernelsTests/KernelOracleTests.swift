import DiTKernels
import TestSupport
import Testing

/// Every case of ``KernelCases`` against Double, its slopes and PyTorch.
@Suite("Every kernel against Double") struct KernelOracleTests {
  /// The levels run different instructions over the same formulas: not the same bits, but nearly the same numbers. Where
  /// they round to bf16, what was nearly the same may be rounded up here and down there.
  @Test(
    "Every result is its definition's, at every level nearly the same, and nothing beside the operands is touched",
    arguments: KernelCases.all)
  func oracle(_ kernel: any KernelCase) throws {
    let inputs = kernel.inputs
    let expected = kernel.expected(Inputs(inputs))
    let narrow = kernel.run(try Level.all[0].context(), inputs)
    for level in Level.all {
      let run = kernel.run(try level.context(), inputs)
      for expectation in expected {
        let problem = expectation.problem(in: run)
        #expect(problem == nil, "\(type(of: kernel)), \(level)")
        let difference = expectation.difference(run, narrow)
        #expect(difference == nil, "\(type(of: kernel)), \(level) and \(Level.all[0])")
      }
      #expect(run.damage == nil, "\(type(of: kernel)), \(level)")
      #expect(Set(run.results.map(\.name)) == Set(expected.flatMap(\.names)), "a result without an oracle")
    }
  }

  /// The gradients are those of the loss Σ dy ⊙ y.
  @Test("Gradients are the slopes of the loss by central differences", arguments: KernelCases.differenced)
  func differences(_ kernel: any KernelCase) throws {
    let inputs = kernel.inputs
    let x = Inputs(inputs)
    let expected = kernel.expected(x)
    #expect(!kernel.gradients.isEmpty)
    for (input, gradient) in kernel.gradients {
      let expectation = try #require(expected.first { $0.name == gradient })
      var slopes = centralDifferences(at: x[input]) { values in
        var moved = x
        moved[input] = values
        return kernel.loss(moved)
      }
      // What the kernel adds to.
      if x.contains(gradient) { slopes = zip(slopes, x[gradient]).map { $0 + $1 } }
      for level in Level.all {
        let run = kernel.run(try level.context(), inputs)
        #expect(expectation.problem(in: run, values: slopes) == nil, "\(type(of: kernel)), \(level)")
      }
    }
  }

  @Test("Results and gradients are PyTorch's", arguments: KernelCases.fixtures)
  func torch(_ fixture: KernelFixture) throws {
    let contents = try fixture.load()
    let expected = contents.kernel.expected(Inputs(contents.inputs))
    for level in Level.all {
      let run = contents.kernel.run(try level.context(), contents.inputs)
      for (name, values) in contents.results {
        let expectation = try #require(expected.first { $0.name == name })
        #expect(expectation.problem(in: run, values: values, tolerance: contents.tolerance) == nil, "\(level)")
      }
    }
  }

  /// Else the cases of hard logits would test nothing.
  @Test("The hard logits of attention are hard", arguments: AttentionCase.hard)
  func hardLogits(_ kernel: AttentionCase) {
    let largest = Reference.largestLogit(Inputs(kernel.inputs)["qkv"], kernel.heads, kernel.windows)
    #expect(largest > (kernel.logits == .low || kernel.logits == .high ? 390 : 80))
  }
}
