#!/usr/bin/env python3
"""Writes Sources/dit/Resources/emoji.safetensors, the colour pictures that ship with the tool.

    apt-get download fonts-noto-color-emoji unicode-data       (Debian 12: 2.042-0+deb12u1 and 15.0.0-1)
    for package in *.deb; do dpkg-deb -x $package debian; done     # or install them and leave --root out
    python3 -m venv ~/dit-emoji && ~/dit-emoji/bin/pip install -r Scripts/requirements-emoji.txt
    ~/dit-emoji/bin/python Scripts/make_emoji.py --root debian [--out FILE] [--grid FILE.png]

The colour bitmaps of Noto Color Emoji (136x128, SIL Open Font License 1.1; see emoji.LICENSE.md), chosen and grouped by
Unicode's emoji-test.txt: fully qualified sequences without a skin tone, and people as persons rather than as women and men.
A class of more than MOST emoji gives that many, evenly spaced in Unicode's order.

    images  U8  (N, 3, 32, 32)  over white, padded to 136x136, then area averages: 4.25 x 4.25 pixels make one
    labels  I64 (N)             index into the metadata's class_names
    metadata  class_names, a JSON array

Images stand class by class, so i mod 5 = 4 holds out a fifth of each. All arithmetic is in integers: the output depends on
nothing but the two packages, and a second run gives the same bytes.
"""

import argparse
import io
import json
import re
import struct
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image

CLASSES = {  # name: Unicode's subgroups, as patterns
    "faces": "face-.*",
    "people": "person|person-(gesture|role|fantasy|activity)",
    "hands": "hand-.*|hands",
    "animals": "animal-.*",
    "plants": "plant-.*|food-(fruit|vegetable)",
    "food": "food-(prepared|asian|marine|sweet)|drink",
    "vehicles": "transport-(ground|water|air)",
    "buildings": "place-(building|religious)",
    "sky": "sky & weather",
    "clothing": "clothing",
    "signs": "transport-sign|warning|arrow|religion|zodiac|av-symbol|keycap|alphanum",
    "flags": "country-flag",
}
MOST = 84
SIZE, CANVAS, WIDTH, HEIGHT = 32, 136, 136, 128
EMOJI, FONT = "usr/share/unicode/emoji/emoji-test.txt", "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
DEFAULT = Path(__file__).resolve().parent.parent / "Sources" / "dit" / "Resources" / "emoji.safetensors"

SKIN_TONES = set(range(0x1F3FB, 0x1F400))
VARIATION, JOINER, SEXES, WOMAN_MAN = 0xFE0F, 0x200D, {0x2640, 0x2642}, {0x1F468, 0x1F469}


def sequences(path):
    """(subgroup, code points) of every emoji that may be chosen, in Unicode's order."""
    subgroup = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# subgroup: "):
            subgroup = line.removeprefix("# subgroup: ").strip()
        elif "; fully-qualified" in line:
            points = [int(point, 16) for point in line.split(";")[0].split()]
            joined = JOINER in points
            if not SKIN_TONES & set(points) and not (joined and (SEXES & set(points) or points[0] in WOMAN_MAN)):
                yield subgroup, points


class Bitmaps:
    """The font's pictures by code points."""

    def __init__(self, path):
        font = TTFont(path)
        self.names = font.getBestCmap()
        self.strike = font["CBDT"].strikeData[0]
        self.ligatures = {}
        for lookup in font["GSUB"].table.LookupList.Lookup:
            for table in lookup.SubTable:
                table = getattr(table, "ExtSubTable", table)
                for first, choices in getattr(table, "ligatures", {}).items():
                    for choice in choices:
                        self.ligatures[(first, *choice.Component)] = choice.LigGlyph

    def glyph(self, points):
        """The one glyph of a sequence; None where the font has none."""
        names = [self.names.get(point) for point in points if point != VARIATION]
        if len(names) > 1:
            return self.ligatures.get(tuple(names))
        return names[0]

    def picture(self, points):
        """(HEIGHT, WIDTH, 4), uint8 RGBA; None where the font has none."""
        glyph = self.strike.get(self.glyph(points))
        if glyph is None:
            return None
        with Image.open(io.BytesIO(glyph.imageData)) as image:
            return np.asarray(image.convert("RGBA"))


def small(picture):
    """(3, SIZE, SIZE) uint8: over white, padded to a square, area averages rounded half up."""
    assert picture.shape == (HEIGHT, WIDTH, 4), picture.shape
    picture = picture.astype(np.int64)
    colour, alpha = picture[..., :3], picture[..., 3:]
    canvas = np.full((CANVAS, CANVAS, 3), 255 * 255, dtype=np.int64)  # times 255
    top, left = (CANVAS - HEIGHT) // 2, (CANVAS - WIDTH) // 2
    canvas[top : top + HEIGHT, left : left + WIDTH] = colour * alpha + 255 * (255 - alpha)
    # How many of the SIZE-ths of a source pixel lie in a target pixel, which spans CANVAS of them.
    source, target = np.arange(CANVAS)[None, :] * SIZE, np.arange(SIZE)[:, None] * CANVAS
    share = np.clip(np.minimum(source + SIZE, target + CANVAS) - np.maximum(source, target), 0, None)
    assert (share.sum(1) == CANVAS).all()
    sums = np.einsum("yr,rcn,xc->nyx", share, canvas, share)
    whole = 255 * CANVAS * CANVAS
    return ((2 * sums + whole) // (2 * whole)).astype(np.uint8)


def chosen(candidates):
    """At most MOST of them, evenly spaced."""
    count = min(MOST, len(candidates))
    return [candidates[i * len(candidates) // count] for i in range(count)]


def write_safetensors(path, images, labels, class_names):
    """By hand, so that the header's bytes depend on nothing but what is in it."""
    tensors = {"images": ("U8", images), "labels": ("I64", labels.astype("<i8"))}
    header, offset = {"__metadata__": {"class_names": json.dumps(class_names)}}, 0
    order = sorted(tensors, key=lambda name: -tensors[name][1].itemsize)  # wide elements first, so that they are aligned
    for name in order:
        dtype, array = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors[name][1].tobytes() for name in order))


def write_grid(path, images, labels, columns=42):
    """All pictures, a class a block of rows, to look at."""
    rows = []
    for label in range(labels.max() + 1):
        own = images[labels == label]
        own = np.concatenate([own, np.full((-len(own) % columns, 3, SIZE, SIZE), 200, np.uint8)])
        rows += [np.concatenate(list(own[i : i + columns]), axis=2) for i in range(0, len(own), columns)]
    Image.fromarray(np.concatenate(rows, axis=1).transpose(1, 2, 0)).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("/"), help="where the two packages are unpacked (/)")
    parser.add_argument("--out", type=Path, default=DEFAULT)
    parser.add_argument("--grid", type=Path, help="also draw all pictures")
    arguments = parser.parse_args()

    bitmaps = Bitmaps(arguments.root / FONT)
    emoji = list(sequences(arguments.root / EMOJI))
    images, labels = [], []
    for label, (name, pattern) in enumerate(CLASSES.items()):
        found = [points for subgroup, points in emoji if re.fullmatch(pattern, subgroup)]
        found = [points for points in found if bitmaps.picture(points) is not None]
        own = [small(bitmaps.picture(points)) for points in chosen(found)]
        print(f"{name}: {len(own)} of {len(found)}")
        images += own
        labels += [label] * len(own)
    images, labels = np.stack(images), np.array(labels)
    assert np.bincount(labels).min() >= 30
    write_safetensors(arguments.out, images, labels, list(CLASSES))
    print(f"{arguments.out}: {len(labels)} images, {arguments.out.stat().st_size} bytes")
    if arguments.grid:
        write_grid(arguments.grid, images, labels)


if __name__ == "__main__":
    main()
