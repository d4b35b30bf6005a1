import DiTDiffusion
import DiTFiles
import DiTTensor

// scheduler_config.json of a diffusers directory, and config.json's `diffusers_scheduler`, which has the same keys.

extension DiffusersScheduler {
  /// The scheduler_config.json at `path`, which may hold Python's infinities.
  ///
  /// - Throws: `DiTError` as ``init(reading:)``.
  public init(contentsOf path: String) throws {
    try self.init(reading: JSONObjectReader(JSONValue(contentsOf: path, fromPython: true), file: path))
  }

  /// The keys of a scheduler_config.json. Finishes the reader.
  ///
  /// Keys that `_use_default_values` lists are those that the file's own class has by default: diffusers reads them as absent,
  /// and so does this. Keys that no sampler here reads are kept in ``unread``.
  /// - Throws: `DiTError` for a value of another type.
  public init(reading reader: JSONObjectReader) throws(DiTError) {
    var reader = reader
    let defaults = try reader.strings(Self.defaultsKey) ?? []
    for key in defaults where key != "_class_name" { _ = reader.value(key) }
    for key in Self.keysWithNull { reader.remove(key, if: .null) }
    reader.remove("lambda_min_clipped", if: .string("-Infinity"))
    self.init()
    className = try reader.string("_class_name") ?? className
    trainSteps = try reader.integer("num_train_timesteps") ?? trainSteps
    betaStart = try reader.number("beta_start")
    betaEnd = try reader.number("beta_end")
    betaSchedule = try reader.string("beta_schedule") ?? betaSchedule
    predictionType = try reader.string("prediction_type") ?? predictionType
    trainedBetas = try reader.numbers("trained_betas")
    timestepSpacing = try reader.string("timestep_spacing")
    stepsOffset = try reader.integer("steps_offset")
    setAlphaToOne = try reader.bool("set_alpha_to_one")
    clipSample = try reader.bool("clip_sample")
    clipSampleRange = try reader.number("clip_sample_range")
    thresholding = try reader.bool("thresholding")
    dynamicThresholdingRatio = try reader.number("dynamic_thresholding_ratio")
    sampleMaxValue = try reader.number("sample_max_value")
    rescaleBetasZeroSNR = try reader.bool("rescale_betas_zero_snr")
    varianceType = try reader.string("variance_type")
    solverOrder = try reader.integer("solver_order")
    algorithmType = try reader.string("algorithm_type")
    solverType = try reader.string("solver_type")
    lowerOrderFinal = try reader.bool("lower_order_final")
    eulerAtFinal = try reader.bool("euler_at_final")
    finalSigmasType = try reader.string("final_sigmas_type")
    predictX0 = try reader.bool("predict_x0")
    disableCorrector = try reader.integers("disable_corrector")
    lambdaMinClipped = try reader.number("lambda_min_clipped")
    skipPRKSteps = try reader.bool("skip_prk_steps")
    interpolationType = try reader.string("interpolation_type")
    timestepType = try reader.string("timestep_type")
    sigmaMin = try reader.number("sigma_min")
    sigmaMax = try reader.number("sigma_max")
    useDynamicShifting = try reader.bool("use_dynamic_shifting")
    shiftTerminal = try reader.number("shift_terminal")
    useKarrasSigmas = try reader.bool("use_karras_sigmas")
    useExponentialSigmas = try reader.bool("use_exponential_sigmas")
    useBetaSigmas = try reader.bool("use_beta_sigmas")
    useLuLambdas = try reader.bool("use_lu_lambdas")
    useFlowSigmas = try reader.bool("use_flow_sigmas")
    for key in Self.origin { _ = reader.value(key) }
    unread = reader.rest()
    try reader.finish()
  }

  /// Which keys are not the file's own choice.
  private static let defaultsKey = "_use_default_values"

  /// Keys whose default is Python's None, a null in the file.
  private static let keysWithNull = [
    "trained_betas", "variance_type", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
    "use_lu_lambdas", "use_flow_sigmas", "sigma_min", "sigma_max", "shift_terminal", "solver_p",
  ]

  /// Keys that say where the file comes from.
  private static let origin = ["_diffusers_version", "_name_or_path"]

  /// The keys of ``unread`` that are no part of what the classes here save: what a note tells.
  public var ignoredKeys: [String] { unread.map(\.key).filter { !Self.inert.contains($0) } }

  /// Keys that classes here save and that change nothing as long as what they belong to (flows) is refused.
  private static let inert: Set<String> = ["flow_shift", "time_shift_type"]

  /// The same keys, those that are nil left out.
  public var json: JSONValue {
    let optional: [(String, JSONValue?)] = [
      ("trained_betas", trainedBetas.map { .array($0.map(JSONValue.real)) }),
      ("timestep_spacing", timestepSpacing.map(JSONValue.string)),
      ("steps_offset", stepsOffset.map(JSONValue.integer)),
      ("set_alpha_to_one", setAlphaToOne.map(JSONValue.bool)),
      ("clip_sample", clipSample.map(JSONValue.bool)),
      ("clip_sample_range", clipSampleRange.map(JSONValue.real)),
      ("thresholding", thresholding.map(JSONValue.bool)),
      ("dynamic_thresholding_ratio", dynamicThresholdingRatio.map(JSONValue.real)),
      ("sample_max_value", sampleMaxValue.map(JSONValue.real)),
      ("rescale_betas_zero_snr", rescaleBetasZeroSNR.map(JSONValue.bool)),
      ("variance_type", varianceType.map(JSONValue.string)),
      ("solver_order", solverOrder.map(JSONValue.integer)),
      ("algorithm_type", algorithmType.map(JSONValue.string)),
      ("solver_type", solverType.map(JSONValue.string)),
      ("lower_order_final", lowerOrderFinal.map(JSONValue.bool)),
      ("euler_at_final", eulerAtFinal.map(JSONValue.bool)),
      ("final_sigmas_type", finalSigmasType.map(JSONValue.string)),
      ("predict_x0", predictX0.map(JSONValue.bool)),
      ("disable_corrector", disableCorrector.map { .array($0.map(JSONValue.integer)) }),
      ("lambda_min_clipped", lambdaMinClipped.map(JSONValue.real)),
      ("skip_prk_steps", skipPRKSteps.map(JSONValue.bool)),
      ("interpolation_type", interpolationType.map(JSONValue.string)),
      ("timestep_type", timestepType.map(JSONValue.string)),
      ("sigma_min", sigmaMin.map(JSONValue.real)),
      ("sigma_max", sigmaMax.map(JSONValue.real)),
      ("use_dynamic_shifting", useDynamicShifting.map(JSONValue.bool)),
      ("shift_terminal", shiftTerminal.map(JSONValue.real)),
      ("use_karras_sigmas", useKarrasSigmas.map(JSONValue.bool)),
      ("use_exponential_sigmas", useExponentialSigmas.map(JSONValue.bool)),
      ("use_beta_sigmas", useBetaSigmas.map(JSONValue.bool)),
      ("use_lu_lambdas", useLuLambdas.map(JSONValue.bool)),
      ("use_flow_sigmas", useFlowSigmas.map(JSONValue.bool)),
    ]
    return .object(
      [
        JSONMember("_class_name", .string(className)), JSONMember("num_train_timesteps", .integer(trainSteps)),
      ]
        + [("beta_start", betaStart), ("beta_end", betaEnd)].compactMap { key, value in
          value.map { JSONMember(key, .real($0)) }
        } + [
          JSONMember("beta_schedule", .string(betaSchedule)), JSONMember("prediction_type", .string(predictionType)),
        ] + optional.compactMap { key, value in value.map { JSONMember(key, $0) } } + unread)
  }
}
