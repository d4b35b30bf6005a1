#!/usr/bin/env python3
"""Judges digits made from prompts: how many an SVM trained on the real digits takes for what was asked.

    Scripts/dit train --data digits --config Examples/captions.json --out runs/captions
    .venv/bin/python Scripts/judge_prompts.py --model runs/captions [--count N] [--seed N] [--dit COMMAND]

Each of the ten digits is asked for in three ways, "the digit seven", "seven", "7", --count images each (20). The judge is
judge_digits.py's: an RBF SVM fitted to the real training split, which sees pixels and nothing of this project.

Exit status: 0 when at least 90 % agree, 1 when fewer, 2 when `dit` fails.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from judge_digits import real_digits
from make_digits import WORDS
from safetensors.numpy import load_file
from sklearn.svm import SVC

FORMS = {"the digit seven": "the digit {word}", "seven": "{word}", "7": "{number}"}
WANTED = 0.9


def samples(dit, model, prompt, count, seed):
    """(count, 64) pixels in [-1, 1]."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "samples.safetensors"
        command = [*dit, "sample", "--model", model, "--prompt", prompt, "--count", str(count), "--seed", str(seed)]
        subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
        return load_file(out)["images"].reshape(count, 64).astype(np.float64)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=20, metavar="N", help="images of each prompt (20)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--dit", default=str(Path(__file__).parent / "dit"), metavar="COMMAND", help="(Scripts/dit)")
    arguments = parser.parse_args()
    train_x, train_y, test_x, test_y = real_digits()
    judge = SVC(C=10).fit(train_x, train_y)
    print(f"the judge on the real test split: {judge.score(test_x, test_y):.3f}")
    agreed = np.zeros((len(FORMS), 10))
    try:
        for row, form in enumerate(FORMS.values()):
            for number, word in enumerate(WORDS):
                prompt, seed = form.format(word=word, number=number), arguments.seed + 100 * row + number
                made = samples(arguments.dit.split(), arguments.model, prompt, arguments.count, seed)
                agreed[row, number] = (judge.predict(np.clip(made, -1, 1)) == number).mean()
    except subprocess.CalledProcessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, row in zip(FORMS, agreed):
        print(f"{name:<16} {row.mean():.3f}   " + " ".join(f"{n}:{share:.2f}" for n, share in enumerate(row)))
    print(f"agreement        {agreed.mean():.3f}   wanted >= {WANTED}, {agreed.size * arguments.count} images")
    return 0 if agreed.mean() >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
