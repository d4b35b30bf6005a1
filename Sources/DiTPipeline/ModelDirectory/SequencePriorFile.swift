// A sequence prior on disk, beside the weights of the run it was fitted for:
//
//   mean         (C, H, W)    F64   the mean image
//   covariance   (5n, 5n)     F64   of left, upper-left, upper, upper-right, target; n = P²C elements in the order
//                                   c, row, column
//   patch_size   ()           I64   P
//
// Double, because what is conditioned on a covariance that was rounded is not what was fitted.

import DiTDiffusion
import DiTFiles
import DiTKernels
import DiTModel
import DiTTensor
import Foundation

extension SequencePrior {
  /// The file's name in a model directory.
  public static let fileName = "sequence_prior.safetensors"

  private static func keys(_ grid: PatchGrid) -> [StateDict.Key] {
    let order = blocks * grid.patchElements
    return [
      ("mean", [grid.channels, grid.height, grid.width]), ("covariance", [order, order]), ("patch_size", []),
    ]
  }

  /// Writes the prior to `path`, atomically; equal priors give equal bytes.
  ///
  /// - Throws: `DiTError`.
  public func write(to path: String) throws {
    let keys = Self.keys(grid)
    try SafetensorsWriter.write(
      [
        TensorSource("mean", shape: keys[0].shape, doubles: mean),
        TensorSource("covariance", shape: keys[1].shape, doubles: covariance),
        TensorSource("patch_size", shape: [], integers: [grid.patchSize]),
      ], to: path)
  }

  /// The prior in `directory` for its network.
  ///
  /// - Returns: nil when the directory has no such file.
  /// - Throws: `DiTError` when the tensors are not those of the network's input and patches, when their numbers are no
  ///   prior, and of `lambda_seq` when the network can have none.
  public init?(directory: String, for network: DiTConfiguration) throws {
    let path = Paths.join(directory, Self.fileName)
    guard FileStatus.exists(path) else { return nil }
    let grid = network.inputGrid
    try grid.checkSequence()
    let file = try SafetensorsFile(contentsOf: path)
    try StateDict.check(file, holds: Self.keys(grid))
    let patchSize = try file.integers("patch_size").values[0]
    guard patchSize == grid.patchSize else {
      throw DiTError(
        file: path, .tensor("patch_size"), expected: "\(grid.patchSize)", found: "\(patchSize)")
    }
    let (mean, covariance) = (try file.doubles("mean").values, try file.doubles("covariance").values)
    do throws(DiTError) {
      try self.init(grid: grid, mean: mean, covariance: covariance)
    } catch {
      throw error.about(file: path, .tensor(error.name), .content)
    }
  }
}
