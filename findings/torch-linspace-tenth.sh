#!/usr/bin/env bash
# torch 2.13.0 (CPU): the sixth of torch.linspace(0, 1, 51)'s float32 points is less than 0.1.
#
# A guess: each point is the float32 nearest to i/50, as numpy's are, so that a guidance interval from 0.1 on includes the
# point 5/50. Seen: point 5 is 0.09999999403953552, one unit below float32's 0.1, so that t >= 0.1 is false there and
# numpy's float32 grid says true; nine or more points of the 51 differ from numpy's, and which others do depends on the
# vector instructions in use. A sampler that walks a flow's 50 steps and switches guidance at 0.1 evaluates another network
# at that step than a program that computes i/50. Compared: the generic, AVX2 and AVX-512 kernels, as far as the machine
# has them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
for level in default avx2 avx512; do
  ATEN_CPU_CAPABILITY=$level "$folder/env/bin/python" - <<'PYTHON'
import numpy as np
import torch

points, nearest = torch.linspace(0, 1, 51), np.linspace(0, 1, 51, dtype=np.float32)
others = [i for i in range(51) if points[i].item() != nearest[i].item()]
print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability(), "point 5:", points[5].item(),
      "t >= 0.1:", bool(points[5] >= 0.1), "numpy:", bool(nearest[5] >= np.float32(0.1)), "points that differ:", others)
assert points[5].item() == 0.09999999403953552 and not bool(points[5] >= 0.1), "expected a point below 0.1"
assert nearest[5] == np.float32(0.1) and len(others) >= 9, "expected numpy's to be the nearest"
PYTHON
done
