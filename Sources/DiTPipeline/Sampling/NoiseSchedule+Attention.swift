import DiTDiffusion
import DiTModel

extension NoiseSchedule {
  /// What diffusion-aware attention reads of the schedule.
  public var attention: AttentionNoise {
    AttentionNoise(betas: betas, alphasCumprod: alphasCumprod, linearTime: process.linearTime)
  }
}
