import DiTEngine

/// What a network says of the sets that `dit evaluate` was given.
struct FeatureInputs {
  /// Nil where only the reference's statistics are wanted.
  let samples: PictureFeatures?
  let reference: PictureFeatures

  /// Notes for the user, one per line: statistics do not say of which resize they are.
  var notes: [String] {
    [samples, reference].compactMap { $0 }.filter { $0.features.statistics != nil }.map {
      "\($0.features.name): its statistics are taken for those of pictures resized as \($0.resize.rawValue) (--resize): ADM's and "
        + "JiT's are torch-fidelity's, those of pytorch-fid and clean-fid their own"
    }
  }

  /// For ``Evaluation``.
  var both: (samples: PictureFeatures, reference: PictureFeatures)? { samples.map { ($0, reference) } }

  /// Computes what the measures need, and shows how far it is.
  ///
  /// - Throws: `DiTError`.
  init(
    _ inputs: EvaluationInputs, _ network: FeatureNetwork, _ resize: PictureResize?, _ options: EvaluationOptions,
    isSavingStatistics: Bool, isSavingFeatures: Bool, _ group: any Communicator
  ) throws {
    let haveClasses = inputs.samples?.set?.labels != nil && inputs.reference.set?.labels != nil
    let areCompared =
      options.precisionNeighbors != nil || options.densityNeighbors != nil
      || (options.perClass && options.frechet && haveClasses)
    func wanted(_ input: EvaluationInput, isReference: Bool) -> [FeatureOutput] {
      if isSavingFeatures, !isReference { return FeatureOutput.allCases }
      let isSaved = isReference && isSavingStatistics && input.statistics == nil
      var outputs: [FeatureOutput] = []
      if areCompared || (options.frechet && input.statistics == nil) || isSaved || options.resamples > 0 {
        outputs.append(.features)
      }
      if (options.spatialFrechet && input.spatial == nil) || isSaved { outputs.append(.spatial) }
      if options.inceptionScore, !isReference { outputs.append(.logits) }
      return outputs
    }
    func features(_ input: EvaluationInput, isReference: Bool) throws -> PictureFeatures {
      var bar: ProgressBar?
      let features = try PictureFeatures(
        of: input, by: network, resize: resize, outputs: wanted(input, isReference: isReference), group: group
      ) { done, total in
        guard group.isFirst else { return }
        if bar == nil { bar = ProgressBar("features of \(FileName.shown(input.name))", unit: "pictures", total: total) }
        bar?.update(done)
      }
      bar?.clear()
      return features
    }
    // Both before the first picture: each may take hours.
    try PictureFeatures.check(inputs.reference, by: network, outputs: wanted(inputs.reference, isReference: true))
    if let samples = inputs.samples {
      try PictureFeatures.check(samples, by: network, outputs: wanted(samples, isReference: false))
    }
    reference = try features(inputs.reference, isReference: true)
    samples = try inputs.samples.map { try features($0, isReference: false) }
  }

  /// Those that the reference came with; else those of its pictures.
  func referenceStatistics(
    on context: ComputeContext, _ group: any Communicator
  ) throws -> (mean: Statistics, spatial: Statistics?) {
    func statistics(_ input: EvaluationInput) throws -> Statistics? {
      try input.statistics ?? input.set.map { try Statistics(of: $0, on: context, group: group) }
    }
    guard let mean = try statistics(reference.features) else {
      throw DiTError(set: reference.features.name, expected: "pictures or statistics", found: "neither")
    }
    return (mean, try reference.spatial.flatMap(statistics))
  }
}

extension PictureFeatures {
  /// Writes what there is of the pictures as tensors (N, …), with their labels.
  func save(to file: OutputFile) throws {
    let sets: [(FeatureOutput, SampleSet?)] = [
      (.features, features.set), (.spatial, spatial?.set), (.logits, logits),
    ]
    var tensors = sets.compactMap { output, set in
      set.map { set in
        TensorSource(output.rawValue, shape: [set.count, set.depth]) { offset, chunk in
          let rows = offset / set.depth..<(offset + chunk.count + set.depth - 1) / set.depth
          let values = try set.elements(rows)
          for i in chunk.indices { chunk[i] = values[offset - rows.lowerBound * set.depth + i] }
        }
      }
    }
    if let labels = features.set?.labels {
      tensors.append(TensorSource("labels", shape: [labels.count], integers: labels))
    }
    try file.write(tensors, metadata: ["network": network.kind.rawValue, "resize": resize.rawValue])
  }
}
