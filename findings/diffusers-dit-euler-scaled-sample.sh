#!/usr/bin/env bash
# diffusers 0.42.1: DiTPipeline does not sample with EulerDiscreteScheduler, though it takes it.
#
# A guess: a pipeline whose scheduler is set to EulerDiscreteScheduler, which its documentation's other schedulers may be
# exchanged for, samples by Euler's method. Seen: the pipeline starts from N(0, 1) noise without init_noise_sigma, and gives the
# scheduler's step not x but the scaled copy of x that the network is shown. With a network that predicts no noise at all
# Euler's method leaves x as it is; the pipeline divides it by √(σ²+1) in every step, by tens of thousands over ten of them. Who wants
# Euler's (or Heun's, LMS's, Euler ancestral's) pictures of a DiT must write the loop; results of the pipeline are no oracle for
# it. With DDIM, PNDM, DPM-Solver++, DEIS and UniPC, which do not scale, the pipeline is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 diffusers==0.42.1 transformers accelerate
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - <<'PYTHON'
import math

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel, EulerDiscreteScheduler

diffusers.logging.set_verbosity_error()
print("diffusers", diffusers.__version__)
torch.manual_seed(0)
transformer = DiTTransformer2DModel(
    num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, num_layers=1, sample_size=4, patch_size=2,
    num_embeds_ada_norm=1000,
)
torch.nn.init.zeros_(transformer.proj_out_2.weight)
torch.nn.init.zeros_(transformer.proj_out_2.bias)
vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)

found = {}
for scheduler in (EulerDiscreteScheduler(timestep_spacing="leading"), DDIMScheduler(clip_sample=False)):
    pipe = DiTPipeline(transformer, vae, scheduler)
    pipe.set_progress_bar_config(disable=True)
    samples, step = [], scheduler.step

    def record(output, t, sample, **more):
        assert output.abs().max() == 0
        samples.append(sample)
        return step(output, t, sample, **more)

    scheduler.step = record
    pipe(class_labels=[1], num_inference_steps=10, guidance_scale=1.0, generator=torch.manual_seed(3), output_type="pt")
    name = type(scheduler).__name__
    found[name] = (samples[-1] / samples[0]).mean().item()
    if name == "EulerDiscreteScheduler":
        start = samples[0].std().item()
        wanted = 1.0
        shrunk = math.prod(1 / math.sqrt(s * s + 1) for s in scheduler.sigmas[1:-1].tolist())
        print("Euler: init_noise_sigma is", scheduler.init_noise_sigma.item(), "but the first step begins with deviation", start)
    else:
        alphas = scheduler.alphas_cumprod
        wanted = shrunk = (alphas[scheduler.timesteps[-1]] / alphas[scheduler.timesteps[0]]).sqrt().item()
    print(f"{name}: without noise predicted x is scaled by {found[name]:.3e} over 9 steps, {wanted:.3e} by the method")
    assert abs(found[name] / shrunk - 1) < 1e-3, (found, shrunk)
assert start < 0.1 and found["EulerDiscreteScheduler"] < 1e-4, (start, found)
PYTHON
