import DiTDiffusion
import DiTTensor

/// The input and output of the last evaluation: enough for x̂_*, which is computed on demand. The memory
/// is the run's, and of this evaluation until the next one.
struct LastEvaluation: Sendable {
  /// x̂_* = noised·x + output·out.
  enum Reading: Sendable {
    /// The process's at a time.
    case ofProcess(NetworkTime)
    case all(noised: Double, output: Double)
    /// One per image.
    case each([(noised: Double, output: Double)])
  }

  let shape: BatchShape
  /// x, (N, C, H, W).
  let x: FloatSlice
  /// (N, C', H, W); with guidance (2N, C', H, W), the conditional predictions first.
  let outputs: FloatSlice
  /// Nil where guidance is not active.
  let guidance: Guidance?
  let reading: Reading

  /// The prediction, guided if need be, (N, C', H, W).
  func prediction(_ output: inout MutableSpan<Float>) {
    let count = output.count
    guard let guidance else {
      let source = outputs.span
      for index in 0..<count { output[index] = source[index] }
      return
    }
    guidance.combine(
      conditional: outputs[0..<count].span, unconditional: outputs[count..<2 * count].span, shape: shape,
      into: &output)
  }

  /// x̂_* = noised·x + output·out, (N, C, H, W); a variance half of the output is not read.
  func estimate(_ process: DiffusionProcess) -> [Float] {
    var output = [Float](repeating: 0, count: guidance == nil ? outputs.count : outputs.count / 2)
    var prediction = output.mutableSpan
    self.prediction(&prediction)
    let (size, stride) = (shape.elementsPerSample, output.count / shape.samples)
    let x = x.span
    var clean = [Float](repeating: 0, count: shape.count)
    for n in 0..<shape.samples {
      let (ofNoised, ofOutput) =
        switch reading {
        case .ofProcess(let time): process.clean(at: time)
        case .all(let noised, let output): (noised, output)
        case .each(let readings): readings[n]
        }
      for i in 0..<size {
        clean[n * size + i] = Float(ofNoised * Double(x[n * size + i]) + ofOutput * Double(output[n * stride + i]))
      }
    }
    return clean
  }
}
