#!/usr/bin/env python3
"""Judges generated digits against the real ones, with nothing of this project's code.

    python3 -m venv .venv && .venv/bin/pip install -r Scripts/requirements-judge.txt
    Scripts/dit sample --classes 0-9 --count 100 --out samples.safetensors
    .venv/bin/python Scripts/judge_digits.py samples.safetensors [--json] [--seeds N]
    .venv/bin/python Scripts/judge_digits.py --calibrate

FILE is a safetensors file with `images` or, without it, `samples` (N,1,8,8; nominally in [-1,1]) and `labels` (N): the class
each was asked for. The real digits come from scikit-learn; test = every index i with i mod 5 = 4 (359), train = the rest (1,438).

    agreement   fraction that an RBF SVM trained on the real training split assigns to the class asked for       >= 0.97
    frechet     Frechet distance of Gaussians fitted to the 64 pixels, samples against the real test split       <= 1.0
    told apart  accuracy of an RBF SVM (C=10, gamma 'scale', stratified five-fold) telling 359 of the samples,
                chosen at random, from the real test split, all rounded to the 17 grey levels; mean over seeds   <= 0.70
    nearest     mean distance to the nearest training image, over the same for the real test split               >= 0.7

Exit status: 0 when all hold, 1 when one is missed, 2 when the file cannot be judged.
--calibrate prints what the same measures say of real images, of per-class Gaussians and of noisy copies.
"""

import argparse
import json
import sys

import numpy as np
from safetensors.numpy import load_file
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import SVC

CLASSES = 10
THRESHOLDS = {  # measure: (which side is good, bound)
    "agreement": (">=", 0.97),
    "frechet": ("<=", 1.0),
    "told_apart": ("<=", 0.70),
    "nearest": (">=", 0.7),
}


def real_digits():
    """(train x, train y, test x, test y): x (n, 64) in [-1, 1]."""
    digits = load_digits()
    x, y = digits.data / 8 - 1, digits.target
    test = np.arange(len(y)) % 5 == 4
    return x[~test], y[~test], x[test], y[test]


def to_levels(x):
    """Rounded to the 17 grey levels of the real digits, still in [-1, 1]."""
    return np.clip(np.rint((x + 1) * 8), 0, 16) / 8 - 1


def frechet_distance(a, b):
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), A and B the covariances."""
    mean_a, mean_b = a.mean(0), b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr (A B)^(1/2) = sum of the square roots of the eigenvalues of A^(1/2) B A^(1/2), which is symmetric and >= 0.
    # (Some border pixels never vary, so A B is singular and its own square root ill-conditioned.)
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root_a @ cov_b @ root_a), 0, None)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def told_apart(samples, real, seeds):
    """Accuracies, one a seed, of a classifier telling len(real) random samples from real; 0.5 is chance."""
    scores = []
    for seed in range(seeds):
        chosen = np.random.default_rng(seed).permutation(len(samples))[: len(real)]
        x = to_levels(np.concatenate([samples[chosen], real]))
        y = np.repeat([0, 1], [len(chosen), len(real)])
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        scores.append(cross_val_score(SVC(C=10), x, y, cv=folds).mean())
    return np.array(scores)


def nearest(x, train):
    """Mean Euclidean distance to the nearest training image."""
    return float(cdist(x, train).min(1).mean())


class Judge:
    def __init__(self, seeds=5):
        self.seeds = seeds
        self.train_x, self.train_y, self.test_x, self.test_y = real_digits()
        self.classifier = SVC(C=10).fit(self.train_x, self.train_y)
        self.classifier_accuracy = float(self.classifier.score(self.test_x, self.test_y))
        self.real_nearest = nearest(self.test_x, self.train_x)

    def __call__(self, x, labels):
        """x (N, 64) in [-1, 1], labels (N) -> the report."""
        agreed = self.classifier.predict(x) == labels
        scores = told_apart(x, self.test_x, self.seeds)
        distance = nearest(x, self.train_x)
        report = {
            "count": len(x),
            "classifier_accuracy": self.classifier_accuracy,
            "agreement": float(agreed.mean()),
            "agreement_by_class": [float(agreed[labels == c].mean()) if (labels == c).any() else None for c in range(CLASSES)],
            "frechet": frechet_distance(x, self.test_x),
            "frechet_train": frechet_distance(self.train_x, self.test_x),
            "told_apart": float(scores.mean()),
            "told_apart_sd": float(scores.std()),
            "told_apart_min": float(scores.min()),
            "told_apart_max": float(scores.max()),
            "seeds": self.seeds,
            "nearest": distance / self.real_nearest,
            "nearest_distance": distance,
            "nearest_distance_real": self.real_nearest,
        }
        report["held"] = {
            name: bool(report[name] >= bound if side == ">=" else report[name] <= bound)
            for name, (side, bound) in THRESHOLDS.items()
        }
        report["pass"] = all(report["held"].values())
        return report


def load_samples(path):
    """(x (N, 64) clipped to [-1, 1], labels (N)) of a safetensors file."""
    tensors = load_file(path)
    name = next((n for n in ("images", "samples") if n in tensors), None)
    if name is None or "labels" not in tensors:
        raise ValueError(f"{path}: needs `images` or `samples`, and `labels`; it has {', '.join(sorted(tensors)) or 'nothing'}")
    x, labels = tensors[name], tensors["labels"]
    if x.ndim != 4 or x.shape[1:] != (1, 8, 8) or labels.shape != x.shape[:1]:
        raise ValueError(f"{path}: {name} {x.shape} and labels {labels.shape}, expected (N, 1, 8, 8) and (N,)")
    if not np.issubdtype(x.dtype, np.floating) or not np.isfinite(x).all():
        raise ValueError(f"{path}: {name} must be finite floating-point numbers in [-1, 1]")
    labels = labels.astype(np.int64)
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= CLASSES:
        raise ValueError(f"{path}: labels must be 0...9")
    return np.clip(x.reshape(len(x), 64).astype(np.float64), -1, 1), labels


def calibrate(judge):
    """The same measures for stand-ins whose scores are known: name -> report."""
    rng = np.random.default_rng(0)
    x, y = judge.train_x, judge.train_y
    gaussians = [rng.multivariate_normal(x[y == c].mean(0), np.cov(x[y == c], rowvar=False), size=100) for c in range(CLASSES)]
    copies = x + 0.125 * rng.standard_normal(x.shape)
    stand_ins = {
        "real training split": (x, y),
        "per-class Gaussians": (np.clip(np.concatenate(gaussians), -1, 1), np.repeat(np.arange(CLASSES), 100)),
        "noisy copies (sd 0.125)": (np.clip(copies, -1, 1), y),
    }
    return {name: judge(samples, labels) for name, (samples, labels) in stand_ins.items()}


def table(report):
    rows = [
        ("agreement", f"{report['agreement']:.4f}", f"the judge on the real test split: {report['classifier_accuracy']:.4f}"),
        ("frechet", f"{report['frechet']:.4f}", f"real training split: {report['frechet_train']:.4f}"),
        ("told_apart", f"{report['told_apart']:.4f}",
         f"sd {report['told_apart_sd']:.3f}, {report['told_apart_min']:.3f} to {report['told_apart_max']:.3f} over {report['seeds']} seeds; chance 0.5"),
        ("nearest", f"{report['nearest']:.4f}", f"distance {report['nearest_distance']:.3f}, real test split {report['nearest_distance_real']:.3f}"),
    ]
    print(f"{'measure':<12}{'value':>8}  {'wanted':<8}{'':<8}")
    for name, value, remark in rows:
        side, bound = THRESHOLDS[name]
        print(f"{name:<12}{value:>8}  {side} {bound:<5g}{'ok' if report['held'][name] else 'MISSED':<8}({remark})")
    print("agreement by class: " + " ".join("-" if a is None else f"{c}:{a:.2f}" for c, a in enumerate(report["agreement_by_class"])))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of the table")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="random choices of 359 samples to average over (5)")
    parser.add_argument("--calibrate", action="store_true", help="judge real images, Gaussians and noisy copies")
    arguments = parser.parse_args()
    if (arguments.file is None) != arguments.calibrate:
        parser.error("give FILE or --calibrate")
    if arguments.seeds < 1:
        parser.error("--seeds must be at least 1")

    judge = Judge(arguments.seeds)
    if arguments.calibrate:
        for name, report in calibrate(judge).items():
            print(json.dumps({"of": name, **report}) if arguments.json else f"\n{name} ({report['count']} images)")
            if not arguments.json:
                table(report)
        return 0

    try:
        x, labels = load_samples(arguments.file)
        if len(x) < len(judge.test_x):
            raise ValueError(f"{arguments.file}: {len(x)} samples, at least {len(judge.test_x)} are needed")
    except Exception as error:  # a file that cannot be read, whatever the reason
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = judge(x, labels)
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        table(report)
    return 0 if report["pass"] else 1


if __name__ == "__main__":
    sys.exit(main())
