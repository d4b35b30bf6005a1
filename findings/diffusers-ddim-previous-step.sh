#!/usr/bin/env bash
# diffusers 0.42.1: DDIMScheduler does not step to the next time of its own list.
#
# A guess: a step at timesteps[i] leads to timesteps[i + 1]. Seen: it leads to timesteps[i] − T // S. With `linspace` or
# `trailing` spacing, and wherever S does not divide T, that is another time: after 7 linspace steps of 1000 the step at 999
# leads to 857 though the next one evaluated is 832, so the network is told a time that its input does not have. A sampler that
# is to give diffusers' pictures must do the same; one that follows the list gives others. `dit sample` does the former
# for diffusers' directories alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 diffusers==0.42.1
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - <<'PYTHON'
import diffusers
import torch
from diffusers import DDIMScheduler

print("diffusers", diffusers.__version__)
# The noise is predicted as 0, so a step only scales x by √(ᾱ of where it leads / ᾱ of where it starts): that ratio says
# where it leads.
different = {}
for spacing in ("leading", "linspace", "trailing"):
    scheduler = DDIMScheduler(timestep_spacing=spacing, clip_sample=False)
    scheduler.set_timesteps(7)
    alphas = scheduler.alphas_cumprod.double()
    times = scheduler.timesteps.tolist()
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    leads = []
    for time in times[:-1]:
        ratio = scheduler.step(torch.zeros_like(x), time, x).prev_sample.item()
        leads.append(int((alphas - ratio**2 * alphas[time]).abs().argmin()))
    print(f"{spacing}: evaluated at {times}, steps lead to {leads}")
    different[spacing] = sum(lead != time for lead, time in zip(leads, times[1:]))
print("steps that lead elsewhere than to the next time:", different)
assert different == {"leading": 0, "linspace": 6, "trailing": 5}, different
PYTHON
