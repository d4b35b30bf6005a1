import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// Images ↔ rows of patches, in both orders, and the patch embedding.
@Suite("Images, rows of patches and the patch embedding") struct PatchTests {
  static let grids = [
    PatchGrid(channels: 1, height: 1, width: 1, patchSize: 1),
    PatchGrid(channels: 3, height: 5, width: 7, patchSize: 1),
    PatchGrid(channels: 5, height: 6, width: 10, patchSize: 2),
    PatchGrid(channels: 2, height: 9, width: 3, patchSize: 3),
    PatchGrid(channels: 4, height: 8, width: 8, patchSize: 8),
  ]

  @Test(
    "Every element goes to its place in the patches and back, in both orders",
    arguments: grids, [PatchOrder.channelFirst, .channelLast])
  func everyElement(_ grid: PatchGrid, _ order: PatchOrder) {
    let (samples, size, p) = (3, grid.channels * grid.height * grid.width, grid.patchSize)
    let images = (0..<samples * size).map(Float.init)
    #expect(grid.tokens == (grid.height / p) * (grid.width / p) && grid.patchElements == p * p * grid.channels)
    // Patch by patch, as the definition reads.
    var expected: [Float] = []
    for sample in 0..<samples {
      for token in 0..<grid.tokens {
        let (top, left) = (token / grid.columns * p, token % grid.columns * p)
        func element(_ channel: Int, _ row: Int, _ column: Int) -> Float {
          images[((sample * grid.channels + channel) * grid.height + top + row) * grid.width + left + column]
        }
        for i in 0..<grid.patchElements {
          switch order {
          case .channelFirst: expected.append(element(i / (p * p), i / p % p, i % p))
          case .channelLast: expected.append(element(i % grid.channels, i / grid.channels / p, i / grid.channels % p))
          }
        }
      }
    }
    let operands = Operands()
    let (patches, back) = (operands.output("patches", images.count), operands.output("images", images.count))
    patchify(
      patches: patches.mutableSpan, images: operands.vector("x", images).span, samples: samples, grid: grid,
      order: order
    )
    #expect(bitDifference(patches.array, expected) == nil)
    unpatchify(images: back.mutableSpan, patches: patches.span, samples: samples, grid: grid, order: order)
    #expect(bitDifference(back.array, images) == nil)
    #expect(operands.damage == nil)
  }

  /// A convolution of stride P: torch's weight order is channel, row, column.
  @Test("The patch embedding and its gradients are PyTorch's convolution", arguments: InstructionSet.runnable)
  func torchEmbedding(_ level: InstructionSet) throws {
    let fixture = try Fixture("kernels")
    let context = try ComputeContext(threads: 2, instructionSet: level)
    let grid = PatchGrid(channels: 3, height: 6, width: 10, patchSize: 2)
    let (rows, inputs, outputs) = (2 * grid.tokens, grid.patchElements, 11)
    let (images, dy) = try (fixture.floats("patch.x"), fixture.floats("patch.dy"))
    let w = Matrix(FloatSlice(try fixture.floats("patch.weight")), rows: outputs, columns: inputs)
    let x = MutableMatrix(MutableFloatSlice(zeros: images.count), rows: rows, columns: inputs)
    let y = MutableMatrix(MutableFloatSlice(zeros: rows * outputs), rows: rows, columns: outputs)
    patchify(patches: x.memory.mutableSpan, images: images.span, samples: 2, grid: grid, order: .channelFirst)
    context.product(into: y, x.reading, w.transposed, bias: FloatSlice(try fixture.floats("patch.bias")))
    try #expect(mismatch(y.memory.array, fixture.doubles("patch.y"), within: .sum(of: inputs)) == nil)

    let dw = MutableMatrix(MutableFloatSlice(zeros: outputs * inputs), rows: outputs, columns: inputs)
    let (db, dx) = (MutableFloatSlice(zeros: outputs), MutableFloatSlice(zeros: images.count))
    let gradient = Matrix(FloatSlice(dy), rows: rows, columns: outputs)
    context.weightGradient(into: dw, bias: db, gradient, x.reading, scratch: nil)
    context.product(into: x, gradient, w)
    unpatchify(images: dx.mutableSpan, patches: x.memory.span, samples: 2, grid: grid, order: .channelFirst)
    try #expect(mismatch(dw.memory.array, fixture.doubles("patch.dweight"), within: .sum(of: rows)) == nil)
    try #expect(mismatch(db.array, fixture.doubles("patch.dbias"), within: .sum(of: rows)) == nil)
    try #expect(mismatch(dx.array, fixture.doubles("patch.dx"), within: .sum(of: outputs)) == nil)
  }

  /// The output end's order: row, column, channel.
  @Test("Unpatchify and its gradient are PyTorch's")
  func torchUnpatchify() throws {
    let fixture = try Fixture("kernels")
    let grid = PatchGrid(channels: 6, height: 6, width: 10, patchSize: 2)
    let (x, dy) = try (fixture.floats("unpatchify.x"), fixture.floats("unpatchify.dy"))
    let (y, dx) = (MutableFloatSlice(zeros: x.count), MutableFloatSlice(zeros: x.count))
    unpatchify(images: y.mutableSpan, patches: x.span, samples: 2, grid: grid, order: .channelLast)
    patchify(patches: dx.mutableSpan, images: dy.span, samples: 2, grid: grid, order: .channelLast)
    try #expect(bitDifference(y.array, fixture.doubles("unpatchify.y").map { Float($0) }) == nil)
    try #expect(bitDifference(dx.array, fixture.doubles("unpatchify.dx").map { Float($0) }) == nil)
  }
}
