#!/usr/bin/env bash
# torch 2.13.0 on a CPU without bf16 instructions (AVX2: Zen 1 to 3, many of Intel's desktop CPUs): bfloat16 is not merely no faster. A Linear in
# bf16, or float32 weights under autocast, takes several times float32's time, as products of bf16 leave the fast library for a plain loop.
# A training script with autocast to bf16, the ordinary way on a CPU, becomes several times slower on such a machine without a word.
# Seen on a Zen 3 (AVX2), two threads, 3136 × 192 → 1024: forward 10.7 times, a training step under autocast 17 to 21 times float32's
# time; 256 × 1152 → 4608: 4.9 times. Asserted: more than 1.5 times, each. On newer CPUs the two variables below hold torch to AVX2.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6
ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 "$folder/env/bin/python" - <<'PYTHON'
import statistics, time, torch

torch.set_num_threads(2)


def turns(*functions):
    """Medians of each function's seconds, in turns."""
    seconds = [[] for _ in functions]
    for turn in range(10):
        for function, times in zip(functions, seconds):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    return [statistics.median(times[2:]) for times in seconds]


def step(layer, x, enabled):
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        y = layer(x)
    y.float().sum().backward()


print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
ratios = []
for rows, inputs, outputs in ((3136, 192, 1024), (256, 1152, 4608)):
    layer, x = torch.nn.Linear(inputs, outputs), torch.randn(rows, inputs)
    half, y = torch.nn.Linear(inputs, outputs).bfloat16(), x.bfloat16()
    with torch.no_grad():
        single, bf16 = turns(lambda: layer(x), lambda: half(y))
    print(f"{rows} x {inputs} -> {outputs}: float32 {1e3 * single:.1f} ms, bf16 {1e3 * bf16:.1f} ms, {bf16 / single:.1f} times")
    ratios.append(bf16 / single)
layer, x = torch.nn.Linear(192, 1024), torch.randn(3136, 192, requires_grad=True)
single, bf16 = turns(lambda: step(layer, x, False), lambda: step(layer, x, True))
print(f"a training step of the first: float32 {1e3 * single:.1f} ms, autocast {1e3 * bf16:.1f} ms, {bf16 / single:.1f} times")
ratios.append(bf16 / single)
assert min(ratios) > 1.5, ratios
PYTHON
