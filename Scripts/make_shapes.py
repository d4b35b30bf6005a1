#!/usr/bin/env python3
"""A folder of pictures to try training with: discs and squares, 48 PNGs of 40×40 in two class folders.

    python3 Scripts/make_shapes.py FOLDER

The same pictures every time. Needs no package.
"""

import pathlib
import random
import struct
import sys
import zlib

SIDE, COUNT = 40, 24


def png(rows):
    """An RGB PNG of rows of (red, green, blue)."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    pixels = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def picture(draw, is_disc):
    x, y, radius = draw.randrange(14, 26), draw.randrange(14, 26), draw.randrange(7, 13)
    color, ground = [tuple(draw.randrange(low, low + 100) for _ in range(3)) for low in (150, 0)]

    def is_inside(column, row):
        across, down = abs(column - x), abs(row - y)
        return across**2 + down**2 <= radius**2 if is_disc else max(across, down) <= radius

    return png([[color if is_inside(column, row) else ground for column in range(SIDE)] for row in range(SIDE)])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    draw = random.Random(1)
    for name in ("disc", "square"):
        folder = pathlib.Path(sys.argv[1], name)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(COUNT):
            (folder / f"{number:02}.png").write_bytes(picture(draw, name == "disc"))


if __name__ == "__main__":
    main()
