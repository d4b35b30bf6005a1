import DiTEngine

/// Allocations of a step that has run before, and memory.
enum MemoryUses: Section {
  static let name = "memory"
  static let note = """
    Allocations: calls of malloc and its kin in one call after the first, workers included. Resident memory (VmRSS) is of \
    the whole process after the calls, the peak (VmHWM) since the weights were drawn.
    """

  static func run(_ session: Session) throws {
    let works = (session.isQuick ? ["S"] : ["S", "B"]).flatMap { size in
      Variant.timed.flatMap { [(Model(size), true, $0), (Model(size), false, $0)] }
    }
    for (model, isForward, variant) in session.wanted(works, name: name) {
      let weights = Weights.drawn(model.configuration)
      try session.verify(model.name, model.configuration, weights, variant)
      MemoryUse.resetPeak()
      let fields =
        try isForward
        ? forward(model.configuration, weights, session.context.threads, variant)
        : training(model.configuration, weights, session.context.threads, variant)
      try session.add(
        name(model, isForward, variant), fields + [Field.bytes("weights", "weights", weights.byteCount)])
    }
  }

  private static func forward(
    _ configuration: DiTConfiguration, _ weights: Weights, _ threads: Int, _ variant: Variant
  ) throws -> [Field] {
    let watch = AllocationWatch()
    let network = try makeNetwork(configuration, weights: weights, context: ComputeContext(threads: threads), variant)
    let work = ForwardWork(network, Inputs(configuration, samples: 1), mode: .steady)
    return try fields(watch.allocations(work.run), workspaceBytes: work.workspaceBytes)
  }

  private static func training(
    _ configuration: DiTConfiguration, _ weights: Weights, _ threads: Int, _ variant: Variant
  ) throws -> [Field] {
    let watch = AllocationWatch()
    let work = try TrainingWork(
      configuration, start: weights, Inputs(configuration, samples: 8), context: ComputeContext(threads: threads),
      TrainingWork.Options(variant: variant, averages: true))
    return try fields(watch.allocations(work.run), workspaceBytes: work.workspaceBytes)
  }

  private static func fields(_ allocations: Int, workspaceBytes: Int) throws -> [Field] {
    let use = try MemoryUse.current()
    return [
      AllocationWatch.isSupported
        ? Field("allocations", "allocations", Double(allocations)) : Field("allocations", "not counted here", [:]),
      Field.bytes("resident", "resident", use.resident), Field.bytes("peak", "peak", use.peak),
      Field.bytes("workspace", "workspace", workspaceBytes),
    ]
  }

  private static func name(_ model: Model, _ isForward: Bool, _ variant: Variant) -> String {
    "\(isForward ? "forward" : "training step") \(model.name), batch \(isForward ? 1 : 8), \(variant.name)"
  }
}
