#!/usr/bin/env bash
# torch 2.13.0 on a CPU: RMSNorm does less arithmetic than LayerNorm and is chosen for that, yet nn.RMSNorm takes several times nn.LayerNorm's
# time. LayerNorm is one kernel; RMSNorm is put together from a square, a mean, an addition, a root and two products, each of which reads or
# writes the whole tensor, forward and again backward (its name in the profile, _fused_rms_norm, is of a wrapper around these).
# Whoever times a modern block (RMSNorm, normalized q and k) against another engine on a CPU times this too.
# Seen: forward, 8 × 256 × 1152, two threads: 9.4 ms for 0.46; forward and backward, 64 × 49 × 192: 2.7 ms for 0.62. Asserted: the
# operators of both, and that RMSNorm takes at least 1.5 times LayerNorm's time with its backward pass.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import statistics, time, torch
from torch.profiler import ProfilerActivity, profile

torch.set_num_threads(2)


def operators(module, x):
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as found:
        module(x)
    return {event.key for event in found.key_averages()}


def milliseconds(module, x):
    times = []
    for turn in range(35):
        start = time.perf_counter()
        y = module(x)
        y.backward(torch.ones_like(y))
        x.grad = None
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[5:])


print("torch", torch.__version__)
layer, rms = torch.nn.LayerNorm(1152), torch.nn.RMSNorm(1152, eps=1e-6)
x = torch.randn(8, 256, 1152, requires_grad=True)
seen = {"LayerNorm": operators(layer, x.detach()), "RMSNorm": operators(rms, x.detach())}
for name, found in seen.items():
    print(name, sorted(found))
assert "aten::native_layer_norm" in seen["LayerNorm"] and "aten::mean" not in seen["LayerNorm"]
assert {"aten::pow", "aten::mean", "aten::rsqrt", "aten::mul"} <= seen["RMSNorm"]
ratios = []
for shape in ((64, 49, 192), (8, 256, 1152)):
    x = torch.randn(*shape, requires_grad=True)
    layer, rms = torch.nn.LayerNorm(shape[-1]), torch.nn.RMSNorm(shape[-1], eps=1e-6)
    a, b = milliseconds(layer, x), milliseconds(rms, x)
    ratios.append(b / a)
    print(f"{shape}: forward and backward, LayerNorm {a:.2f} ms, RMSNorm {b:.2f} ms: {b / a:.1f} times")
assert min(ratios) > 1.5
PYTHON
