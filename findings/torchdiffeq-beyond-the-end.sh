#!/usr/bin/env bash
# torchdiffeq 0.2.5: odeint with dopri5 asks for the slope beyond the last time that it is asked for.
#
# A guess: integrated over t in [0, 1], a network that knows times from 0 to 1 is asked at such times, the last step ending at
# 1 as in scipy's solve_ivp. Seen: the last step is as long as the tolerance allows and the value at 1 is interpolated inside
# it, so that the function is asked at t = 1.2 and later, for one output time or fifty. A flow's network is then asked about
# a noise level that does not exist (a time embedding it was not trained with), and the sample depends on the answer; a
# function that refuses t > 1 ends the run. SiT's code samples this way by default.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 torchdiffeq==0.2.5 scipy==1.17.1
"$folder/env/bin/python" - <<'PYTHON'
import torch
import torchdiffeq
from scipy.integrate import solve_ivp
from torchdiffeq import odeint

print("torchdiffeq", torchdiffeq.__version__)
x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def run(beyond: float, points: int) -> tuple[torch.Tensor, list[float]]:
    """A velocity that is x's distance from ½, and `beyond` more after t = 1."""
    times = []

    def velocity(t, x):
        times.append(t.item())
        return 0.5 - x + (beyond if t > 1 else 0)

    return odeint(velocity, x, torch.linspace(0, 1, points), method="dopri5", rtol=1e-3, atol=1e-6)[-1], times


for points in (2, 50):
    sample, times = run(0, points)
    other, _ = run(1, points)
    changed = (other - sample).abs().max().item()
    print(f"{points} output times: asked at {max(times):.3f} at the latest, {sum(t > 1 for t in times)} times beyond 1; "
          f"another velocity there changes the sample by {changed:.3f}")
    assert max(times) > 1.05 and changed > 1e-3, "expected times beyond 1"
times = []
solve_ivp(lambda t, x: times.append(t) or 0.5 - x, (0, 1), x.flatten().double().numpy(), method="RK45", rtol=1e-3, atol=1e-6)
print(f"scipy's RK45: asked at {max(times)} at the latest")
assert max(times) == 1
PYTHON
