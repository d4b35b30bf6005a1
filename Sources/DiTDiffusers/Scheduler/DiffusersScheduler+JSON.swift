import DiTDiffusion
import DiTFiles

// scheduler_config.json of a diffusers directory, and config.json's `diffusers_scheduler`, which has the same keys.

extension DiffusersScheduler {
  /// The scheduler_config.json at `path`, which may hold Python's infinities.
  ///
  /// - Throws: `FileError`, ``ConfigurationFileError`` as ``init(reading:)``.
  public init(contentsOf path: String) throws {
    try self.init(reading: JSONObjectReader(JSONValue(contentsOf: path, fromPython: true), file: path))
  }

  /// The keys of a scheduler_config.json. Finishes the reader.
  ///
  /// - Throws: ``ConfigurationFileError`` for a value of another type, and for a key that no scheduler of diffusers is
  ///   known to have: what it changes cannot be known.
  public init(reading reader: JSONObjectReader) throws(ConfigurationFileError) {
    var reader = reader
    for key in Self.keysWithNull { reader.remove(key, if: .null) }
    reader.remove("lambda_min_clipped", if: .string("-Infinity"))
    self.init()
    className = try reader.string("_class_name") ?? className
    trainSteps = try reader.integer("num_train_timesteps") ?? trainSteps
    betaStart = try reader.number("beta_start") ?? betaStart
    betaEnd = try reader.number("beta_end") ?? betaEnd
    betaSchedule = try reader.string("beta_schedule") ?? betaSchedule
    predictionType = try reader.string("prediction_type") ?? predictionType
    trainedBetas = try reader.numbers("trained_betas")
    timestepSpacing = try reader.string("timestep_spacing")
    stepsOffset = try reader.integer("steps_offset")
    setAlphaToOne = try reader.bool("set_alpha_to_one")
    clipSample = try reader.bool("clip_sample")
    clipSampleRange = try reader.number("clip_sample_range")
    thresholding = try reader.bool("thresholding")
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
    useKarrasSigmas = try reader.bool("use_karras_sigmas")
    useExponentialSigmas = try reader.bool("use_exponential_sigmas")
    useBetaSigmas = try reader.bool("use_beta_sigmas")
    useLuLambdas = try reader.bool("use_lu_lambdas")
    useFlowSigmas = try reader.bool("use_flow_sigmas")
    for key in Self.withoutEffect { _ = reader.value(key) }
    try reader.finish()
  }

  /// Keys whose default is Python's None, a null in the file.
  private static let keysWithNull = [
    "trained_betas", "variance_type", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
    "use_lu_lambdas", "use_flow_sigmas",
  ]

  /// Keys that say how something is done which is refused when it is asked for (thresholds, flows, σ grids), that belong
  /// to schedulers which are not here, or where the file comes from.
  private static let withoutEffect = [
    "_diffusers_version", "_name_or_path", "_use_default_values", "dynamic_thresholding_ratio", "sample_max_value",
    "flow_shift", "use_dynamic_shifting", "time_shift_type", "shift_terminal", "sigma_min", "sigma_max", "solver_p",
    "skip_prk_steps", "interpolation_type", "timestep_type", "final_sigma_type",
  ]

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
      ("use_karras_sigmas", useKarrasSigmas.map(JSONValue.bool)),
      ("use_exponential_sigmas", useExponentialSigmas.map(JSONValue.bool)),
      ("use_beta_sigmas", useBetaSigmas.map(JSONValue.bool)),
      ("use_lu_lambdas", useLuLambdas.map(JSONValue.bool)),
      ("use_flow_sigmas", useFlowSigmas.map(JSONValue.bool)),
    ]
    return .object(
      [
        JSONMember("_class_name", .string(className)), JSONMember("num_train_timesteps", .integer(trainSteps)),
        JSONMember("beta_start", .real(betaStart)), JSONMember("beta_end", .real(betaEnd)),
        JSONMember("beta_schedule", .string(betaSchedule)), JSONMember("prediction_type", .string(predictionType)),
      ] + optional.compactMap { key, value in value.map { JSONMember(key, $0) } })
  }
}
