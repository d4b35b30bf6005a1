#!/usr/bin/env bash
# torchdiffeq 0.2.5: with a float32 state the length of dopri5's steps is decided by rounding.
#
# A guess: a function that is the same to seven digits in float32 and in float64 gives solutions that differ by about as
# little, as a fixed method's do. Seen: the error of a short step, which says how long the next may be, is made of float32
# numbers that cancel; far below the tolerance it is little more than rounding, a factor of ten of the next step hangs on it, and with
# rtol 1e-3 and atol 1e-6, the tolerances that SiT's code samples with, the second step of one initial value is a few per cent longer or shorter than
# in float64. The two solutions differ by a share of the method's own error, hundreds of times what Euler's do: whoever
# compares two implementations of one network by dopri5's samples compares their rounding.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 torchdiffeq==0.2.5
"$folder/env/bin/python" - <<'PYTHON'
import torch
import torchdiffeq
from torchdiffeq import odeint

print("torchdiffeq", torchdiffeq.__version__, "torch", torch.__version__)
torch.set_num_threads(1)
random = torch.Generator().manual_seed(1)
first, second = torch.randn(64, 64, generator=random) / 4, torch.randn(64, 64, generator=random) / 4
start = torch.randn(8, 64, generator=random)


def run(x, method, **options):
    """One initial value: the end, and the times at which the slope was asked for."""
    a, b, times = first.to(x.dtype), second.to(x.dtype), []

    def slope(t, x):
        times.append(t.item())
        return torch.tanh(x @ a + 3 * t.float().to(x.dtype)) @ b

    return odeint(slope, x, torch.linspace(0, 1, 50), method=method, **options)[-1], times


worst = {"dopri5": 0.0, "euler": 0.0}
lengths = []
for n in range(8):
    x = start[n : n + 1]
    for method, options in (("dopri5", dict(rtol=1e-3, atol=1e-6)), ("euler", {})):
        (one, times), (two, other) = run(x, method, **options), run(x.double(), method, **options)
        worst[method] = max(worst[method], (one - two).abs().max().item())
        if method == "dopri5" and len(times) > 13 and len(other) > 13:
            # Two questions for the first step's length, six for the step itself; the second step ends at the 14th.
            lengths.append((times[13] - times[7]) / (other[13] - other[7]))
print("float32 against float64, largest difference:", {name: f"{value:.1e}" for name, value in worst.items()})
print("length of the second step, float32 over float64:", [round(value, 4) for value in lengths])
assert worst["euler"] < 2e-6 and worst["dopri5"] > 20 * worst["euler"], worst
assert max(abs(value - 1) for value in lengths) > 1e-3, lengths
PYTHON
