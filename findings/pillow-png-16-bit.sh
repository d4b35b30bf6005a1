#!/usr/bin/env bash
# Pillow 13.0.0: one and the same 16-bit PNG becomes three different pictures, depending on its colour type.
#
# A guess: `Image.open(path).convert("RGB")`, with which training data are read, gives the 8-bit picture nearest to a 16-bit
# one, x·255/65535 rounded as the PNG standard recommends. Seen: grey opens as I;16, and its conversion clips: everything
# above 255 of 65535 becomes white, a whole X-ray or depth map but its black. The same samples with an alpha channel, or as
# RGB, are cut to their high byte: never more than one level from the nearest, on average half a level too dark. Nothing
# warns. So folders of 16-bit pictures train or evaluate differently here, where all are rounded, and in a Pillow pipeline.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import io
import struct
import zlib

import numpy as np
import PIL
from PIL import Image

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

def png(samples, colour):
    """A 16-bit PNG of (rows, columns, channels) samples, as the standard has it."""
    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))

def read(samples, colour):
    with Image.open(io.BytesIO(png(samples, colour))) as image:
        return image.mode, np.asarray(image.convert("RGB"))[..., 0].ravel().tolist()

print("Pillow", PIL.__version__)
values = [0, 127, 129, 200, 256, 300, 20000, 32767, 65407, 65535]
grey = np.array(values).reshape(1, -1, 1)
opaque = np.full_like(grey, 65535)
nearest = [(x + 128) // 257 for x in values]
found = {
    "grey": read(grey, 0),
    "grey and alpha": read(np.concatenate([grey, opaque], -1), 4),
    "RGB": read(np.repeat(grey, 3, -1), 2),
}
print("samples         ", values)
print("nearest in 8 bit", nearest)
for name, (mode, result) in found.items():
    print(f"{name:16} {result} (opened as {mode})")
assert found["grey"] == ("I;16", [min(x, 255) for x in values])
assert found["grey and alpha"][1] == found["RGB"][1] == [x >> 8 for x in values]
assert found["RGB"][1] != nearest
PYTHON
