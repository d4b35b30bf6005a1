#!/usr/bin/env bash
# diffusers 0.42.1: DDPMScheduler's documented variance_type fixed_large_log gives no numbers.
#
# A guess: as fixed_small_log is fixed_small by way of a logarithm, fixed_large_log is fixed_large: σ = exp(½ log β). Seen: the
# first step returns NaN alone, since the root of log β is taken, which is negative for every β below 1; nothing is raised. Only
# the last step, which draws no noise, stays a number. `dit sample` takes it for fixed_large, as GLIDE, whose name it is, does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 diffusers==0.42.1
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - <<'PYTHON'
import diffusers
import torch
from diffusers import DDPMScheduler

print("diffusers", diffusers.__version__)
found = {}
for kind in ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"):
    scheduler = DDPMScheduler(variance_type=kind, clip_sample=False)
    scheduler.set_timesteps(4)
    x = torch.ones(1, 1, 2, 2)
    steps = [
        scheduler.step(torch.zeros_like(x), t, x, generator=torch.Generator().manual_seed(0)).prev_sample.isfinite().all().item()
        for t in scheduler.timesteps
    ]
    found[kind] = steps
    print(f"{kind}: finite at {scheduler.timesteps.tolist()}: {steps}")
assert all(all(found[kind]) for kind in found if kind != "fixed_large_log"), found
assert found["fixed_large_log"] == [False, False, False, True], found
PYTHON
