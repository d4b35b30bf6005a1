import DiTDiffusion
import DiTModel
import DiTTensor

extension Tensor {
  /// Throws unless all elements are finite.
  func checkFinite(_ name: String) throws(DiTError) {
    if let found = notFinite { throw DiTError(argument: name, expected: "finite numbers", found: found) }
  }
}

// MARK: - What a process and a network can take

extension DiffusionProcess {
  /// Throws unless all are times that the network knows; `whole` also refuses those between two training indices.
  func checkTimes(_ times: [Float], whole: Bool = false) throws(DiTError) {
    for time in times {
      guard timeRange ~= time, !whole || time == time.rounded() else {
        let kind = whole ? "whole times" : "times"
        throw DiTError(argument: "t", expected: "\(kind) in 0…\(Int(timeRange.upperBound))", found: "\(time)")
      }
    }
  }
}

extension DiTConfiguration {
  /// (N, C, H, W).
  func imageShape(_ samples: Int) -> [Int] { [samples, inChannels, inputHeight, inputWidth] }

  /// Throws unless `images` are N ≥ 1 inputs of finite numbers; returns N.
  func checkImages(_ images: Tensor, _ name: String) throws(DiTError) -> Int {
    guard images.shape.count == 4, images.shape[0] > 0, images.shape == imageShape(images.shape[0]) else {
      throw DiTError(
        argument: name, expected: "shape [N, \(inChannels), \(inputHeight), \(inputWidth)] with N ≥ 1",
        found: "\(images.shape)")
    }
    try images.checkFinite(name)
    return images.shape[0]
  }

  /// Throws where the network is told guidance, for `purpose`, which tells it no more than time and class.
  package func checkTimeAlone(_ purpose: String) throws(DiTError) {
    guard !isToldGuidance else {
      throw DiTError(
        argument: "token_groups", expected: "the groups class and time alone \(purpose)",
        found: "\(timeInputs) numbers for each image")
    }
  }

  /// Throws unless there is one value for each of `samples` images.
  func checkCount(_ count: Int, _ samples: Int, _ name: String) throws(DiTError) {
    guard count == samples else {
      throw DiTError(argument: name, expected: "\(samples) values, one per image", found: "\(count)")
    }
  }

  /// Throws unless `labels` are classes (or the null class) of as many images, or none for an unconditional model.
  func checkLabels(_ labels: [Int], _ samples: Int, _ name: String = "y") throws(DiTError) {
    guard numClasses > 0 else {
      guard labels.isEmpty else {
        throw DiTError(argument: name, expected: "no labels, as the model is unconditional", found: "\(labels.count)")
      }
      return
    }
    try checkCount(labels.count, samples, name)
    for label in labels where !(0..<labelRows ~= label) {
      throw DiTError(argument: name, expected: "labels in 0…\(labelRows - 1)", found: "\(label)")
    }
  }
}
