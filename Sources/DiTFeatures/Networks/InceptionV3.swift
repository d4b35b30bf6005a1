import DiTFiles
import DiTKernels
import DiTTensor

/// The blocks of the Inception-v3 that FID is made with, of 299 × 299 pixels in [−1, 1].
///
/// It is TensorFlow's of 2015-12-05 as ported to PyTorch, with 1,008 classes: pools of a mean leave the padding out, and the last
/// block's pool takes the greatest.
///
/// Sources: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2015); Heusel et al., "GANs Trained by a
/// Two Time-Scale Update Rule" (2017); the names are torchvision's.
struct InceptionV3 {
  let blocks: [FeatureBlock]
  /// (1008, 2048), without the bias, which the Inception Score leaves out; nil where the file has none.
  let classifier: [Float]?

  /// The block whose first channels are the spatial features: TensorFlow's mixed_6, of which `mixed_6/conv` is the first branch.
  private static let spatialBlock = "Mixed_6d"

  /// Whether a file has such weights.
  static func isIn(_ store: some TensorStore) -> Bool { store.shape(of: "Mixed_5b.branch1x1.conv.weight") != nil }

  init(_ store: any TensorStore, _ context: ComputeContext) throws {
    let reader = UnitReader(store: store, context: context, epsilon: 1e-3)
    func unit(_ name: String, _ channels: Int, _ outputs: Int, _ shape: WindowShape) throws -> ConvolutionUnit {
      try reader.convolution(name + ".conv", name + ".bn", shape, channels, outputs, limit: .infinity)
    }
    func step(_ name: String, _ channels: Int, _ outputs: Int, _ shape: WindowShape) throws -> FeatureStep {
      .convolution(try unit(name, channels, outputs, shape))
    }
    let point = WindowShape(1)
    let across = WindowShape(1, 7, padding: (0, 3))
    let down = WindowShape(7, 1, padding: (3, 0))
    let square = WindowShape(3, padding: 1)
    let half = WindowShape(3, stride: 2)
    let halving = FeatureStep.pool(half, isMean: false)

    /// 35 × 35.
    func a(_ name: String, _ channels: Int, _ pool: Int) throws -> FeatureBlock {
      FeatureBlock(branches: [
        [try step("\(name).branch1x1", channels, 64, point)],
        [
          try step("\(name).branch5x5_1", channels, 48, point),
          try step("\(name).branch5x5_2", 48, 64, WindowShape(5, padding: 2)),
        ],
        [
          try step("\(name).branch3x3dbl_1", channels, 64, point), try step("\(name).branch3x3dbl_2", 64, 96, square),
          try step("\(name).branch3x3dbl_3", 96, 96, square),
        ],
        [.pool(square, isMean: true), try step("\(name).branch_pool", channels, pool, point)],
      ])
    }
    /// 17 × 17, over filters of 7 × 1 and 1 × 7.
    func c(_ name: String, _ inner: Int) throws -> FeatureBlock {
      FeatureBlock(
        branches: [
          [try step("\(name).branch1x1", 768, 192, point)],
          [
            try step("\(name).branch7x7_1", 768, inner, point), try step("\(name).branch7x7_2", inner, inner, across),
            try step("\(name).branch7x7_3", inner, 192, down),
          ],
          [
            try step("\(name).branch7x7dbl_1", 768, inner, point),
            try step("\(name).branch7x7dbl_2", inner, inner, down),
            try step("\(name).branch7x7dbl_3", inner, inner, across),
            try step("\(name).branch7x7dbl_4", inner, inner, down),
            try step("\(name).branch7x7dbl_5", inner, 192, across),
          ],
          [.pool(square, isMean: true), try step("\(name).branch_pool", 768, 192, point)],
        ], output: name == Self.spatialBlock ? .spatial : nil)
    }
    /// 8 × 8.
    func e(_ name: String, _ channels: Int, isMean: Bool) throws -> FeatureBlock {
      func split(_ a: String, _ b: String, _ channels: Int) throws -> FeatureStep {
        .split([
          try unit("\(name).\(a)", channels, 384, WindowShape(1, 3, padding: (0, 1))),
          try unit("\(name).\(b)", channels, 384, WindowShape(3, 1, padding: (1, 0))),
        ])
      }
      return FeatureBlock(branches: [
        [try step("\(name).branch1x1", channels, 320, point)],
        [try step("\(name).branch3x3_1", channels, 384, point), try split("branch3x3_2a", "branch3x3_2b", 384)],
        [
          try step("\(name).branch3x3dbl_1", channels, 448, point),
          try step("\(name).branch3x3dbl_2", 448, 384, square),
          try split("branch3x3dbl_3a", "branch3x3dbl_3b", 384),
        ],
        [.pool(square, isMean: isMean), try step("\(name).branch_pool", channels, 192, point)],
      ])
    }
    blocks = [
      FeatureBlock(branches: [
        [
          try step("Conv2d_1a_3x3", 3, 32, half), try step("Conv2d_2a_3x3", 32, 32, WindowShape(3)),
          try step("Conv2d_2b_3x3", 32, 64, square), halving,
        ]
      ]),
      FeatureBlock(branches: [
        [try step("Conv2d_3b_1x1", 64, 80, point), try step("Conv2d_4a_3x3", 80, 192, WindowShape(3)), halving]
      ]),
      try a("Mixed_5b", 192, 32), try a("Mixed_5c", 256, 64), try a("Mixed_5d", 288, 64),
      FeatureBlock(branches: [
        [try step("Mixed_6a.branch3x3", 288, 384, half)],
        [
          try step("Mixed_6a.branch3x3dbl_1", 288, 64, point), try step("Mixed_6a.branch3x3dbl_2", 64, 96, square),
          try step("Mixed_6a.branch3x3dbl_3", 96, 96, half),
        ],
        [halving],
      ]),
      try c("Mixed_6b", 128), try c("Mixed_6c", 160), try c("Mixed_6d", 160), try c("Mixed_6e", 192),
      FeatureBlock(branches: [
        [try step("Mixed_7a.branch3x3_1", 768, 192, point), try step("Mixed_7a.branch3x3_2", 192, 320, half)],
        [
          try step("Mixed_7a.branch7x7x3_1", 768, 192, point), try step("Mixed_7a.branch7x7x3_2", 192, 192, across),
          try step("Mixed_7a.branch7x7x3_3", 192, 192, down), try step("Mixed_7a.branch7x7x3_4", 192, 192, half),
        ],
        [halving],
      ]),
      try e("Mixed_7b", 1280, isMean: true), try e("Mixed_7c", 2048, isMean: false),
      FeatureBlock(branches: [[.pool(WindowShape(8), isMean: true)]], output: .features),
    ]
    classifier = store.shape(of: "fc.weight") == nil ? nil : try reader.tensor("fc.weight", [1008, 2048])
  }
}
