import DiTFiles
import DiTKernels
import DiTTensor

/// The blocks of EfficientNet-Lite0, of 224 × 224 pixels, (x − 127) / 128: EfficientNet-B0 without squeeze-and-excitation, with ReLU to 6
/// in place of SiLU.
///
/// Sources: Tan & Le, "EfficientNet" (2019); Liu, "Higher accuracy on vision models with EfficientNet-Lite" (TensorFlow blog, 2020). The
/// names are those of its port to PyTorch.
struct EfficientNetLite0 {
  let blocks: [FeatureBlock]
  /// (1000, 1280), and its bias.
  let classifier: (weight: [Float], bias: [Float])

  static func isIn(_ store: some TensorStore) -> Bool { store.shape(of: "_blocks.0._depthwise_conv.weight") != nil }

  init(_ store: any TensorStore, _ context: ComputeContext) throws {
    let reader = UnitReader(store: store, context: context, epsilon: 1e-3)
    let point = WindowShape(1)
    var blocks = [
      FeatureBlock(branches: [
        [.convolution(try reader.convolution("_conv_stem", "_bn0", .same(3, stride: 2), 3, 32, limit: 6))]
      ])
    ]
    // Repeats, side, stride, expansion, outputs.
    let stages = [
      (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
      (1, 3, 1, 6, 320),
    ]
    var channels = 32
    for (repeats, side, stride, expansion, outputs) in stages {
      for index in 0..<repeats {
        let (name, step) = ("_blocks.\(blocks.count - 1)", index == 0 ? stride : 1)
        let inner = channels * expansion
        var branch: [FeatureStep] = []
        if expansion > 1 {
          branch.append(
            .convolution(
              try reader.convolution("\(name)._expand_conv", "\(name)._bn0", point, channels, inner, limit: 6)))
        }
        branch.append(
          .depthwise(
            try reader.depthwise("\(name)._depthwise_conv", "\(name)._bn1", .same(side, stride: step), inner, limit: 6))
        )
        branch.append(
          .convolution(
            try reader.convolution("\(name)._project_conv", "\(name)._bn2", point, inner, outputs, limit: nil)))
        blocks.append(FeatureBlock(branches: [branch], addsInput: step == 1 && channels == outputs))
        channels = outputs
      }
    }
    blocks.append(
      FeatureBlock(
        branches: [
          [
            .convolution(try reader.convolution("_conv_head", "_bn1", point, channels, 1280, limit: 6)),
            .pool(WindowShape(7), isMean: true),
          ]
        ], output: .features))
    self.blocks = blocks
    classifier = (try reader.tensor("_fc.weight", [1000, 1280]), try reader.tensor("_fc.bias", [1000]))
  }
}
