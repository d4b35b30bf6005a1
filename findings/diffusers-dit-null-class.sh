#!/usr/bin/env bash
# diffusers 0.42.1: DiTPipeline guides against class 1000, whatever number of classes the transformer has.
#
# A guess: the null class is the table's last row, num_embeds_ada_norm, as the transformer's own label dropout trains it.
# Seen: the pipeline has 1000 written into it. A transformer of ten classes, which has eleven rows, samples without
# guidance and raises an IndexError with it; one of more than 1000 classes would be guided away from its class 1000.
# `dit sample` takes the table's last row; directories with 1000 classes give the same either way.
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
vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, layers_per_block=1, sample_size=8)
found = {}
for classes in (10, 1000):
    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        patch_size=2, num_embeds_ada_norm=classes)
    pipeline = DiTPipeline(transformer, vae, DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    for guidance in (1.0, 4.0):
        try:
            pipeline([1], guidance_scale=guidance, num_inference_steps=1, output_type="np")
            found[classes, guidance] = "an image"
        except IndexError as error:
            found[classes, guidance] = f"IndexError: {error}"
        print(f"{classes} classes, guidance {guidance}: {found[classes, guidance]}")
assert found[10, 4.0].startswith("IndexError"), "ten classes can be guided now"
assert [found[key] for key in [(10, 1.0), (1000, 1.0), (1000, 4.0)]] == ["an image"] * 3
PYTHON
