import DiTDistributed
import DiTModel
import DiTPipeline
import DiTTensor

// The trainer's values as models: of several processes put together from all of them.

extension Trainer {
  /// Waits for what other processes have to send. All processes call it.
  ///
  /// - Throws: on all what has failed on one.
  func settle() throws(DiTError) {
    guard let weightGather else { return }
    var failure: DiTError?
    do throws(DiTError) { try weightGather.settle() } catch { failure = error }
    try group.agree(on: failure)
  }

  /// Throws unless the weights and their averages hold finite numbers only, as a checkpoint should.
  func requireFinite() throws(DiTError) {
    try settle()
    var isFinite = norm.value(weights, context).isFinite
    for buffer in [average] + furtherAverages.map(\.values) where isFinite {
      // Of one process the table's trained ranges; of several all that this one has is trained.
      isFinite = group.size == 1 ? norm.value(buffer, context).isFinite : buffer.span.firstNotFinite == nil
    }
    let all = try group.gather([isFinite ? 1.0 : 0])
    guard all.allSatisfy({ $0[0] == 1 }) else {
      throw DiTError(Divergence(step: completedSteps, loss: nil, gradientNorm: nil))
    }
  }

  /// An average as it is on one process: its own buffer; of several it is put together where the gradients are, whose values are
  /// lost. All processes call it.
  func whole(_ average: MutableFloatSlice) throws(DiTError) -> MutableFloatSlice {
    guard group.size > 1 else { return average }
    try settle()
    gradients.copy(from: weights.reading)  // what is not trained
    for (flat, local) in sharding.owned { gradients[flat].copy(from: average[local].reading) }
    try sharding.gather(gradients, group)
    return gradients
  }

  /// The averaged (EMA) network, to sample from. It shares the trainer's memory: use it before the next step; of several
  /// processes, which all call this, also before the next validation or checkpoint.
  ///
  /// - Throws: `DiTError` with a ``Divergence`` when the weights or their average are not finite: no pictures are made of them.
  public func averagedModel() throws -> DiT {
    try requireFinite()
    let flat = try whole(average).reading
    return DiT(checked, weights: Weights(table, flat: flat), context: context, numerics: training.numerics)
  }

  /// Writes the model directory of the present step: config.json, model.safetensors, ema.safetensors, and a file of each
  /// further average. Of several processes the first writes; all call it.
  public func export(to directory: String) throws { try export(model, to: directory) }

  /// The same with another configuration of the same network.
  func export(_ model: ModelConfiguration, to directory: String) throws {
    try settle()
    guard group.isFirst else {
      for values in [average] + furtherAverages.map(\.values) { _ = try whole(values) }
      return
    }
    // Of several processes one average after another takes the same memory, each when its file is written.
    let table = table
    func weights(_ values: MutableFloatSlice) -> () throws -> Weights {
      { Weights(table, flat: try self.whole(values).reading) }
    }
    let trained = Weights(table, flat: self.weights.reading)
    try ModelDirectory.write(
      model, model: { trained }, ema: weights(average),
      furtherAverages: furtherAverages.map { ($0.decay, weights($0.values)) }, to: directory)
  }
}
