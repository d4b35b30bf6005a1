#!/usr/bin/env bash
# torch 2.13.0: a cosine schedule that is restored for more steps keeps its old length, and its rate rises again.
#
# A guess: CosineAnnealingLR made with the new T_max and given the state of the old run goes on to 0 at the new last step,
# or stays at 0.
# Seen: load_state_dict restores T_max with the rest, and the schedule is periodic: after the old last step the rate climbs
# back to the full one. (LambdaLR with a plain function or partial, as Hugging Face's get_cosine_schedule_with_warmup makes
# it, does not save the length: the cosine is stretched.) `dit train --resume --steps` stretches, or keeps 0, by choice.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import functools
import math

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR


def cosine(step, steps):
    return (1 + math.cos(math.pi * step / steps)) / 2


def rates(make):
    """10 steps, then 10 more by a scheduler for 20 that is given the state of the first."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer, 10)
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    states = optimizer.state_dict(), scheduler.state_dict()
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer, 20)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    found = []
    for _ in range(10):
        optimizer.step()
        scheduler.step()
        found.append(scheduler.get_last_lr()[0])
    return found


print("torch", torch.__version__)
annealing = rates(lambda optimizer, steps: CosineAnnealingLR(optimizer, T_max=steps))
function = rates(lambda optimizer, steps: LambdaLR(optimizer, functools.partial(cosine, steps=steps)))
print("CosineAnnealingLR, steps 11, 15, 20 of 20:", [round(annealing[i], 4) for i in (0, 4, 9)])
print("LambdaLR with a partial, the same steps:  ", [round(function[i], 4) for i in (0, 4, 9)])
assert annealing[-1] > 0.9 and all(a < b for a, b in zip(annealing, annealing[1:])), "it no longer rises"
assert all(abs(rate - cosine(11 + i, 20)) < 1e-6 for i, rate in enumerate(function)), "it is no longer stretched"
PYTHON
