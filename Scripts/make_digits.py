#!/usr/bin/env python3
"""Writes Sources/dit/Resources/digits.safetensors, the handwritten digits that ship with the tool.

    python3 -m venv .venv && .venv/bin/pip install -r Scripts/requirements-judge.txt
    .venv/bin/python Scripts/make_digits.py [--out FILE]

The 1,797 grey 8x8 digits of the UCI set "Optical Recognition of Handwritten Digits", as scikit-learn ships them
(values 0...16, licence CC BY 4.0; see digits.LICENSE.md).

    images  F16 (1797, 1, 8, 8)  x/8 - 1, in [-1, 1]; the 17 levels are exact in half precision
    labels  I64 (1797)           0...9
    split   U8  (1797)           0 = train (1,438), 1 = test (359): every index i with i mod 5 = 4
    captions U8 (1797, 15)       "the digit seven", "seven", "7" in rotation, image i having form i mod 3; zero-padded

The output depends on nothing but the data: the same bytes every time.
"""

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

WORDS = "zero one two three four five six seven eight nine".split()
DEFAULT = Path(__file__).resolve().parent.parent / "Sources" / "dit" / "Resources" / "digits.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT)
    out = parser.parse_args().out

    digits = load_digits()
    levels = digits.data.reshape(-1, 1, 8, 8)
    images = (levels / 8 - 1).astype(np.float16)
    labels = digits.target.astype(np.int64)
    split = (np.arange(len(labels)) % 5 == 4).astype(np.uint8)

    forms = [(f"the digit {word}", word, str(n)) for n, word in enumerate(WORDS)]
    texts = [forms[label][i % 3].encode() for i, label in enumerate(labels)]
    width = max(map(len, texts))
    captions = np.array([list(text.ljust(width, b"\0")) for text in texts], dtype=np.uint8)

    assert images.shape == (1797, 1, 8, 8) and np.array_equal((images.astype(np.float64) + 1) * 8, levels)
    assert labels.min() == 0 and labels.max() == 9 and split.sum() == 359

    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({"images": images, "labels": labels, "split": split, "captions": captions}, out, metadata={"format": "pt"})
    out.chmod(0o644)
    print(f"{out}: {len(labels)} images, {int((split == 0).sum())} train, {int(split.sum())} test")


if __name__ == "__main__":
    main()
