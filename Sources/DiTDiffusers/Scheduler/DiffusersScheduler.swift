// What a diffusers directory says about sampling: scheduler/scheduler_config.json, value for value.
//
// The values are kept as they are saved, because diffusers builds any of its schedulers from any saved configuration:
// `X.from_config(saved)` takes the keys that the file has and X knows, and X's own defaults for the rest. So nil means that
// the file has no such key, not that the value is the default; and what a value means, or whether it can be used, is
// known only once there is an X.

import DiTDiffusion
import DiTFiles
import DiTTensor

/// The saved configuration of a diffusers scheduler.
///
/// Names are the file's, in Swift's spelling; strings are the file's words. `num_train_timesteps`, `beta_schedule` and
/// `prediction_type` have the same default in every class that is read here.
public struct DiffusersScheduler: Equatable, Sendable {
  /// `_class_name`, as `DDIMScheduler`. The default sampler follows from it; any other sampler can be built too.
  public var className: String
  /// `num_train_timesteps`, T.
  public var trainSteps: Int
  /// `beta_start` and `beta_end`: those of this T, not of T = 1000. 0.0001 and 0.02 where absent, of Heun 0.00085 and 0.012.
  public var betaStart: Double?
  public var betaEnd: Double?
  /// `beta_schedule`: linear, scaled_linear, squaredcos_cap_v2; sigmoid and laplace (DDPM); exp (Heun).
  public var betaSchedule: String
  /// `prediction_type`: epsilon, sample or v_prediction; original_sample (Euler), which is sample.
  public var predictionType: String
  /// `trained_betas`: T values in place of the schedule; nil also where the file has null.
  public var trainedBetas: [Double]?

  /// `timestep_spacing`: leading, trailing or linspace.
  public var timestepSpacing: String?
  /// `steps_offset`, added to leading steps.
  public var stepsOffset: Int?
  /// `set_alpha_to_one` (DDIM, PNDM): whether the last step goes to ᾱ = 1 or to ᾱ_0.
  public var setAlphaToOne: Bool?
  /// `clip_sample` (DDIM, DDPM, Heun): whether x̂_* is cut to ± `clip_sample_range`.
  public var clipSample: Bool?
  public var clipSampleRange: Double?
  /// `thresholding`: whether x̂_* is limited to the quantile `dynamic_thresholding_ratio` of |x̂_*|, at least 1, at most
  /// `sample_max_value`, and divided by it.
  public var thresholding: Bool?
  public var dynamicThresholdingRatio: Double?
  public var sampleMaxValue: Double?
  /// `rescale_betas_zero_snr`: whether β are changed so that the last step has no signal.
  public var rescaleBetasZeroSNR: Bool?
  /// `variance_type` (DDPM): fixed_small, fixed_small_log, fixed_large, …; nil also where the file has null.
  public var varianceType: String?
  /// `solver_order` (DPM-Solver++, UniPC, DEIS).
  public var solverOrder: Int?
  /// `algorithm_type` (DPM-Solver++): dpmsolver++, sde-dpmsolver++, …
  public var algorithmType: String?
  /// `solver_type`: midpoint or heun (DPM-Solver++), bh1 or bh2 (UniPC).
  public var solverType: String?
  /// `lower_order_final` and `euler_at_final`.
  public var lowerOrderFinal: Bool?
  public var eulerAtFinal: Bool?
  /// `final_sigmas_type`: zero or sigma_min.
  public var finalSigmasType: String?
  /// `predict_x0` (UniPC).
  public var predictX0: Bool?
  /// `disable_corrector` (UniPC): the steps after which x is not corrected.
  public var disableCorrector: [Int]?
  /// `lambda_min_clipped` (DPM-Solver++); nil also where the file has −∞, which is nothing.
  public var lambdaMinClipped: Double?
  /// `skip_prk_steps` (PNDM): whether there are no Runge-Kutta steps.
  public var skipPRKSteps: Bool?
  /// `interpolation_type` (Euler): linear or log_linear.
  public var interpolationType: String?
  /// `timestep_type` (Euler): discrete or continuous.
  public var timestepType: String?
  /// `sigma_min` and `sigma_max`, the ends of Karras, exponential and beta σ.
  public var sigmaMin: Double?
  public var sigmaMax: Double?
  /// `use_dynamic_shifting` and `shift_terminal` (UniPC, for flows).
  public var useDynamicShifting: Bool?
  public var shiftTerminal: Double?
  /// `use_karras_sigmas`, `use_exponential_sigmas`, `use_beta_sigmas`, `use_lu_lambdas`, `use_flow_sigmas`.
  public var useKarrasSigmas: Bool?
  public var useExponentialSigmas: Bool?
  public var useBetaSigmas: Bool?
  public var useLuLambdas: Bool?
  public var useFlowSigmas: Bool?
  /// Keys that no sampler here reads, as the file has them: other classes' and other programs'.
  public var unread: [JSONMember] = []

  /// A configuration with none of the keys that classes disagree about.
  public init(
    className: String = "DDIMScheduler", trainSteps: Int = 1000, betaStart: Double? = nil, betaEnd: Double? = nil,
    betaSchedule: String = "linear", predictionType: String = "epsilon", trainedBetas: [Double]? = nil
  ) {
    self.className = className
    self.trainSteps = trainSteps
    self.betaStart = betaStart
    self.betaEnd = betaEnd
    self.betaSchedule = betaSchedule
    self.predictionType = predictionType
    self.trainedBetas = trainedBetas
  }

  /// The sampler that the class is; nil for a class whose sampler is not here.
  public var sampler: SamplerName? {
    SamplerName.allCases.first { $0.diffusersClass == className || $0.diffusersTwin == className }
  }
}

extension SamplerName {
  /// diffusers' name for it on a β path; nil where it walks none.
  public var diffusersClass: String? {
    switch self {
    case .ddim: "DDIMScheduler"
    case .ddpm: "DDPMScheduler"
    case .dpmpp: "DPMSolverMultistepScheduler"
    case .unipc: "UniPCMultistepScheduler"
    case .euler: "EulerDiscreteScheduler"
    case .eulerAncestral: "EulerAncestralDiscreteScheduler"
    case .heun: "HeunDiscreteScheduler"
    case .pndm: "PNDMScheduler"
    case .deis: "DEISMultistepScheduler"
    case .meanflow, .sde, .dopri5: nil
    }
  }

  /// A class that does the same for several timesteps at once.
  fileprivate var diffusersTwin: String? {
    switch self {
    case .ddim: "DDIMParallelScheduler"
    case .ddpm: "DDPMParallelScheduler"
    default: nil
    }
  }
}

extension DiTError {
  private static let schedulerSection = "scheduler_config."

  /// A key of a saved diffusers scheduler has a value that cannot be used.
  init(scheduler key: String, expected: String, found: String) {
    self.init(key: Self.schedulerSection + key, expected: expected, found: found)
  }

  /// The key of a saved diffusers scheduler that the error is about; nil where it is about something else.
  package var schedulerKey: String? {
    guard let key, key.hasPrefix(Self.schedulerSection) else { return nil }
    return String(key.dropFirst(Self.schedulerSection.count))
  }
}
