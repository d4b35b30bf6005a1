#!/usr/bin/env python3
"""Draws what attention costs as its window closes, from a run of the benchmark:

    swift run -c release --package-path Benchmarks dit-bench run --only '^windows' --json windows.json
    python3 Scripts/plot_windows.py windows.json windows.png

The guide Attention shows it: Sources/DiffusionTransformers/DiffusionTransformers.docc/Resources/windows.png.

Needs matplotlib. Time over full attention's of as many tokens, against k; the dotted line is the bound that the benchmark
prints: 1.4 × the share of the 64 × 64 tiles that the windows touch, and a tenth.
"""

import argparse
import json
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def points(rows):
    """(tokens, pass) -> mask -> [(k, share of time, bound)]"""
    found = {}
    for row in rows:
        match = re.fullmatch(r"(\d+) tokens, (\w+), (\w+), k = (\d+)", row["work"])
        if row["section"] == "windows" and match:
            tokens, way, mask, width = match.groups()
            values = row["values"]
            masks = found.setdefault((int(tokens), way), {})
            masks.setdefault(mask, []).append((int(width), values["time_share"], values["bound_share"]))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", help="what dit-bench wrote")
    parser.add_argument("png")
    arguments = parser.parse_args()
    with open(arguments.json, encoding="utf-8") as file:
        panels = points(json.load(file)["results"])
    if not panels:
        parser.error(f"{arguments.json}: expected rows of the section windows, found none")
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.2), sharey=True, squeeze=False)
    for axis, ((tokens, way), masks) in zip(axes[0], panels.items()):
        for mask, line in masks.items():
            axis.plot([k for k, _, _ in line], [time for _, time, _ in line], marker="o", markersize=3, label=mask)
        line = next(iter(masks.values()))
        axis.plot([k for k, _, _ in line], [bound for _, _, bound in line], "k:", label="bound")
        axis.set(title=f"{tokens} tokens, {way}", xlabel="k", xscale="log", ylim=(0, 1.6))
        axis.set_xscale("log", base=2)
    axes[0][0].set_ylabel("time / full attention")
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(arguments.png, dpi=110)


if __name__ == "__main__":
    main()
