#!/usr/bin/env bash
# diffusers 0.42.1: DiTPipeline decodes without its autoencoder's shift_factor, latents_mean and latents_std.
#
# A guess: the pipelines of one library undo an autoencoder's scaling alike, so that a DiT trained on SD3's or FLUX.1's latents,
# z = (m − shift_factor) · scaling_factor, makes its pictures in DiTPipeline. Seen: DiTPipeline gives the decoder
# z / scaling_factor and nothing more, where StableDiffusion3Pipeline and FluxPipeline add shift_factor and
# StableDiffusionXLPipeline takes latents_std and latents_mean. Every latent is off by the shift, without an error or a
# warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 diffusers==0.42.1
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - <<'PYTHON'
import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

print("diffusers", diffusers.__version__)
mean, std = [-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]  # Playground v2.5's
settings = {
    "scaling_factor alone": dict(scaling_factor=1.5305),
    "shift_factor": dict(scaling_factor=1.5305, shift_factor=0.0609),
    "latents_mean and latents_std": dict(scaling_factor=1.5305, latents_mean=mean, latents_std=std),
}
decoded = {}
for name, keys in settings.items():
    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, out_channels=4, num_layers=1, sample_size=4)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, **keys).eval()
    pipeline = DiTPipeline(transformer, vae, DDIMScheduler(clip_sample=False))
    pipeline.set_progress_bar_config(disable=True)
    decode = vae.decode

    def spy(latents, name=name, decode=decode):
        decoded[name] = latents
        return decode(latents)

    vae.decode = spy
    pipeline([207], num_inference_steps=2, generator=torch.manual_seed(0))
for name, latents in decoded.items():
    print(f"{name}: the decoder gets latents of mean {latents.mean().item():.6f}")
first, *others = decoded.values()
assert all(torch.equal(first, other) for other in others)
print("the same latents whatever config.json says of a shift and of statistics")
PYTHON
