#!/usr/bin/env bash
# torch 2.13.0 (CPU): the numbers of torch.randn depend on how many are drawn.
#
# A guess: randn(17) is randn(16) and one more. Seen: of the first 16 only one is the same, because a length that is no
# multiple of 16 has its last 16 numbers drawn anew; and randn(15) shares none with randn(16), because lengths under 16 are
# drawn by another method. Lengths that are multiples of 16 are prefixes of each other. So the start noise of an image
# depends on how many others stand in its batch wherever C·H·W is no multiple of 16, and a program that wants torch's
# noise must draw the batch whole, as `dit sample --rng torch` does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import torch

def randn(count):
    return torch.randn(count, generator=torch.Generator().manual_seed(0))

def shared(short, long):
    count = min(short, long)
    return int((randn(short)[:count] == randn(long)[:count]).sum())

print("torch", torch.__version__)
found = {pair: shared(*pair) for pair in [(15, 16), (16, 17), (16, 24), (16, 32), (32, 64)]}
for (short, long), count in found.items():
    print(f"randn({short}) and randn({long}): {count} of the first {short} are equal")
expected = {(15, 16): 0, (16, 17): 1, (16, 24): 8, (16, 32): 16, (32, 64): 32}
assert found == expected, f"expected {expected}"
PYTHON
