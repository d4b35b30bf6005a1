#!/usr/bin/env bash
# safetensors 0.8.0: whether safetensors.numpy reads bf16 depends on what else the program has imported.
#
# A guess: bf16, the usual type of published weights, either loads or is refused as unsupported. Seen: loading a valid file
# raises a TypeError of numpy's that names neither the file nor the tensor; after `import ml_dtypes`, which nothing asks
# for, the same call succeeds. `dit convert --dtype fp32` writes a file that numpy reads without it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6 ml_dtypes==0.5.4
cat >"$folder/find.py" <<'PYTHON'
import json
import struct
import sys

import numpy
import safetensors
from safetensors.numpy import load_file

header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
open(sys.argv[1], "wb").write(struct.pack("<Q", len(header)) + header + struct.pack("<2H", 0x3F80, 0x4000))

def attempt():
    try:
        return f"{load_file(sys.argv[1])['x'].tolist()}"
    except TypeError as error:
        return f"TypeError: {error}"

before = attempt()
import ml_dtypes
after = attempt()
print("safetensors", safetensors.__version__, "numpy", numpy.__version__, "ml_dtypes", ml_dtypes.__version__)
print("before import ml_dtypes:", before)
print("after it:", after)
assert before.startswith("TypeError") and "bf16.safetensors" not in before and after == "[1.0, 2.0]"
PYTHON
"$folder/env/bin/python" "$folder/find.py" "$folder/bf16.safetensors"
