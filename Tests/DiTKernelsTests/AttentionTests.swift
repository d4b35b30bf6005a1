import DiTKernels
import DiTTensor
import TestSupport
import Testing

/// What attention with a window is when the window is all.
@Suite("Attention with a window over all tokens") struct AttentionTests {
  @Test(
    "A window over all tokens has the bits of plain attention",
    arguments: [Reference.Windows.Mask.soft, .hard], Format.all)
  func fullWindow(_ mask: Reference.Windows.Mask, _ format: Format) throws {
    var plain = AttentionCase(1, 300, 2, 9)
    plain.format = format
    var full = plain
    (full.windows.mask, full.windows.widths) = (mask, [300])
    for level in Level.all {
      let (found, expected) = try (
        full.run(level.context(), full.inputs).named, plain.run(level.context(), plain.inputs).named
      )
      #expect(bitDifference(found, expected) == nil, "\(level)")
    }
  }
}
