#!/usr/bin/env bash
# torch 2.13.0: torch.load does not read what torch.save wrote by pickle protocol 4 or 5.
#
# A guess: whatever `torch.save(…, pickle_protocol=…)` writes, `torch.load` of the same version reads, by default too. Seen: it
# reads protocols 2 and 3 alone. Since torch 2.6 its default is the restricted reader, whose opcodes end there: "Unsupported
# operand 149", which is FRAME, the first opcode of every larger pickle by protocol 4. (Known: pytorch issue 118092.) The
# message advises `weights_only=False`, which runs the pickle. A state dict is as plain by protocol 5 as by 2, and
# `dit` reads all four as data.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PYTHON'
import io

import torch

print("torch", torch.__version__)
read = {}
for protocol in range(2, 6):
    file = io.BytesIO()
    torch.save({"a": torch.ones(3)}, file, pickle_protocol=protocol)
    try:
        read[protocol] = torch.load(io.BytesIO(file.getvalue()))["a"].tolist() == [1, 1, 1]
    except Exception as error:
        operand = [line for line in str(error).splitlines() if line.startswith("Unsupported operand")]
        read[protocol] = operand[0] if operand else str(error)
    whole = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    assert whole["a"].tolist() == [1, 1, 1]
    print(f"protocol {protocol}: {read[protocol]}")
refusal = "Unsupported operand 149"
assert read == {2: True, 3: True, 4: refusal, 5: refusal}, read
PYTHON
