"""Draws loss curves of training runs, smoothed: plot_losses.py OUT.png TITLE=log.jsonl [TITLE=log.jsonl …]

The reference environment of the benchmarks (Benchmarks/peers/requirements.txt) has what it needs.
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

WINDOW = 10  # logged lines that are averaged


def curve(path):
    """Steps and the moving mean of the training loss; steps and values of the validation loss."""
    lines = [json.loads(line) for line in open(path)]
    steps = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    held_out = [(line["step"], line["validation_loss"]) for line in lines if "validation_loss" in line]
    means = []
    for end in range(1, len(steps) + 1):
        part = [loss for _, loss in steps[max(0, end - WINDOW) : end]]
        means.append(sum(part) / len(part))
    return [step for step, _ in steps], means, held_out


def main(out, *runs):
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for run in runs:
        title, path = run.rsplit("=", 1)
        steps, means, held_out = curve(path)
        (line,) = axes.plot(steps, means, label=title, linewidth=1.2)
        if held_out:
            axes.plot(*zip(*held_out, strict=True), "o", color=line.get_color(), markersize=4)
    axes.set(xlabel="step", ylabel="loss (dots: validation)", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
