#!/usr/bin/env bash
# numpy 2.4.6 with ml_dtypes 0.6.0, whose bfloat16 is the type of JAX's arrays on the host: numpy.savez writes such an array without a
# complaint, but the file's header has only "two raw bytes" for its type, so that what numpy.load gives back are not numbers: no sum, no
# cast to float32. The values are there (a view as bfloat16 shows them), the name of their type is lost; 8-bit floats become one raw
# byte, and which of the several kinds of 8-bit floats they were is nowhere. Samples or statistics of a network in bfloat16 have to be saved
# as float32.
# Seen: saved bfloat16, loaded |V2; adding raises, casting raises, the view is equal; saved float8_e4m3fn, loaded |V1.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q numpy==2.4.6 ml_dtypes==0.6.0
"$folder/env/bin/python" - "$folder/a.npz" <<'PYTHON'
import sys

import ml_dtypes
import numpy

values = numpy.array([0.5, -2, 3], ml_dtypes.bfloat16)
assert values.astype(numpy.float32).tolist() == (values + numpy.zeros(3, ml_dtypes.bfloat16)).tolist() == [0.5, -2, 3]
numpy.savez(sys.argv[1], samples=values, small=values.astype(ml_dtypes.float8_e4m3fn))
loaded = numpy.load(sys.argv[1])
samples, small = loaded["samples"], loaded["small"]
print("numpy", numpy.__version__, "saved", values.dtype, "loaded", samples.dtype, "and", small.dtype)
assert samples.dtype.str == "|V2" and small.dtype.str == "|V1"
for name, use in (("adding", lambda: samples + samples), ("casting", lambda: samples.astype(numpy.float32))):
    try:
        use()
    except (TypeError, ValueError) as error:
        print(f"{name}: {type(error).__name__}")
    else:
        sys.exit(f"{name} works")
assert (samples.view(ml_dtypes.bfloat16) == values).all()
PYTHON
